//! Vectors of tokens to one vector of their text, and to the likeness of two texts.

use weights::Metadata;

use crate::error::ModelError;

/// How the states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one's: BERT's classification token.
    First,
    /// The last one's, which has seen all others: decoders.
    Last,
}

impl Pooling {
    /// How a file wants the states of its tokens pooled, whatever its architecture. `None`: it does not say.
    ///
    /// # Errors
    /// When it says something that is not known.
    pub fn of_file(metadata: &Metadata) -> Result<Option<Self>, ModelError> {
        let architecture = metadata.string("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
        Self::of(metadata, architecture, "pooling_type")
    }

    /// What a file says. `None`: nothing, or that its tokens stay apart.
    pub(crate) fn of(
        metadata: &Metadata,
        architecture: &str,
        name: &str,
    ) -> Result<Option<Self>, ModelError> {
        let key = format!("{architecture}.{name}");
        match metadata.u32(&key)? {
            None | Some(0 | 4) => Ok(None),
            Some(1) => Ok(Some(Self::Mean)),
            Some(2) => Ok(Some(Self::First)),
            Some(3) => Ok(Some(Self::Last)),
            Some(other) => {
                let why = "0 to 4 are known: none, mean, first token, last token, and ranking";
                Err(ModelError::Value { key, value: other.to_string(), why })
            }
        }
    }
}

/// The vector of one text of its tokens' states, `[token][width]`.
#[must_use]
pub fn pool(pooling: Pooling, states: &[f32], width: usize) -> Vec<f32> {
    let tokens = states.len() / width;
    match pooling {
        Pooling::First => states[..width].to_vec(),
        Pooling::Last => states[states.len() - width..].to_vec(),
        Pooling::Mean => {
            let mut sums = vec![0.0; width];
            for state in states.chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(state) {
                    *sum += value;
                }
            }
            for sum in &mut sums {
                *sum /= tokens as f32;
            }
            sums
        }
    }
}

/// Gives a vector the length 1. One without a length stays as it is.
pub fn normalise(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    if square > 0.0 {
        let scale = (1.0 / square.sqrt()) as f32;
        for value in vector {
            *value *= scale;
        }
    }
}

/// MaxSim (Khattab & Zaharia, 2020): of each token of the query the likest of the document, added up. Vectors have length
/// 1, `[token][width]`.
#[must_use]
pub fn max_similarity(query: &[f32], document: &[f32], width: usize) -> f32 {
    let likest = |query: &[f32]| {
        let likeness = |document: &[f32]| query.iter().zip(document).map(|(q, d)| q * d).sum::<f32>();
        document.chunks_exact(width).map(likeness).fold(f32::NEG_INFINITY, f32::max)
    };
    if document.len() < width {
        return 0.0;
    }
    query.chunks_exact(width).map(likest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled() {
        let states = [1.0, 2.0, 3.0, 6.0, 5.0, -5.0];
        assert_eq!(pool(Pooling::First, &states, 2), [1.0, 2.0]);
        assert_eq!(pool(Pooling::Last, &states, 2), [5.0, -5.0]);
        assert_eq!(pool(Pooling::Mean, &states, 2), [3.0, 1.0]);
    }

    #[test]
    fn normalised() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0; 3];
        normalise(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }

    #[test]
    fn the_likest_tokens() {
        let (query, document) = ([1.0, 0.0, 0.0, 1.0], [0.6, 0.8, 0.8, 0.6, -1.0, 0.0]);
        assert!((max_similarity(&query, &document, 2) - 1.6).abs() < 1e-6);
        assert_eq!(max_similarity(&query, &[], 2), 0.0);
    }
}
