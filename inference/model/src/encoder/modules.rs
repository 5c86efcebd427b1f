//! What is multiplied with vectors once a model has made them: the `Dense` modules of sentence-transformers behind pooling, and
//! the projection of each token with which late interaction works (Khattab & Zaharia, "ColBERT", 2020). Of any architecture,
//! encoder or decoder; small beside the model, and so computed here in f32, not on the device.

use weights::Gguf;

use crate::error::ModelError;

/// `dense_2`, `dense_3` and so on: as the folders of sentence-transformers are called.
const NUMBERS: std::ops::Range<usize> = 2..10;
const PROJECTION: &str = "token_projection";
/// Numbers of a vector; more has no real model.
const WIDTH_MAX: usize = 1 << 18;
/// Sums that are added up beside each other.
const LANES: usize = 16;

/// The products behind a model. Most have none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modules {
    /// One after another, with the vector of a text.
    texts: Vec<Dense>,
    /// With each token's.
    tokens: Option<Dense>,
    left_out: bool,
}

/// `out = act(weight · x + bias)`.
#[derive(Debug, Clone, PartialEq)]
struct Dense {
    /// `[outputs][inputs]`.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
    /// The activation is tanh; else there is none.
    tanh: bool,
}

impl Modules {
    /// Those of a file whose states are `width` wide.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape than its use needs, or an activation is not known.
    pub fn of_file(file: &Gguf, width: usize) -> Result<Self, ModelError> {
        let metadata = file.metadata();
        let architecture = metadata.string("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
        let (mut texts, mut inputs) = (Vec::new(), width);
        for number in NUMBERS {
            let Some(dense) = Dense::of_file(file, architecture, &format!("dense_{number}"), inputs)? else {
                break;
            };
            inputs = dense.outputs;
            texts.push(dense);
        }
        let tokens = Dense::of_file(file, architecture, PROJECTION, width)?;
        let left_out = metadata.bool(&format!("{architecture}.{PROJECTION}_left_out"))?.unwrap_or(false);
        Ok(Self { texts, tokens, left_out })
    }

    /// Numbers of a text's vector, of a model whose states are `width` wide.
    #[must_use]
    pub fn text_width(&self, width: usize) -> usize {
        self.texts.last().map_or(width, |dense| dense.outputs)
    }

    /// Numbers of a token's.
    #[must_use]
    pub fn token_width(&self, width: usize) -> usize {
        self.tokens.as_ref().map_or(width, |dense| dense.outputs)
    }

    /// The model was made for vectors of its tokens.
    #[must_use]
    pub const fn projects_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Its folder has a projection of tokens in a form that is not read.
    #[must_use]
    pub const fn left_out(&self) -> bool {
        self.left_out
    }

    /// The vector of a text, of what pooling made of it.
    #[must_use]
    pub fn text(&self, vector: Vec<f32>) -> Vec<f32> {
        self.texts.iter().fold(vector, |vector, dense| dense.of_all(&vector))
    }

    /// The vectors of tokens, of their states.
    #[must_use]
    pub fn tokens(&self, states: Vec<f32>) -> Vec<f32> {
        self.tokens.as_ref().map_or_else(|| states.clone(), |dense| dense.of_all(&states))
    }
}

impl Dense {
    fn of_file(
        file: &Gguf,
        architecture: &str,
        name: &str,
        inputs: usize,
    ) -> Result<Option<Self>, ModelError> {
        let weight_name = format!("{name}.weight");
        let Some(tensor) = file.tensor(&weight_name) else { return Ok(None) };
        let outputs = tensor.rows();
        if tensor.shape != [inputs, outputs] || !(1..=WIDTH_MAX).contains(&outputs) {
            let (found, wanted) = (tensor.shape.clone(), vec![inputs, outputs]);
            return Err(ModelError::TensorShape { name: weight_name, found, wanted });
        }
        let values = |name: &str, len: usize| -> Result<Option<Vec<f32>>, ModelError> {
            let Some(tensor) = file.tensor(name) else { return Ok(None) };
            if tensor.elements() != len {
                let (found, wanted) = (tensor.shape.clone(), vec![len]);
                return Err(ModelError::TensorShape { name: name.to_owned(), found, wanted });
            }
            let mut values = vec![0.0; len];
            kernels::unpack::unpack(tensor.block_type, &file.view(tensor), &mut values);
            Ok(Some(values))
        };
        let key = format!("{architecture}.{name}_activation");
        let tanh = match file.metadata().string(&key)? {
            Some("tanh") => true,
            // EmbeddingGemma's, in files of others.
            None | Some("identity") => false,
            Some(other) => {
                let why = "tanh and identity are known";
                return Err(ModelError::Value { key, value: other.to_owned(), why });
            }
        };
        let Some(weight) = values(&weight_name, inputs * outputs)? else { return Ok(None) };
        let bias = values(&format!("{name}.bias"), outputs)?;
        Ok(Some(Self { weight, bias, inputs, outputs, tanh }))
    }

    /// Of vectors one after another.
    fn of_all(&self, vectors: &[f32]) -> Vec<f32> {
        let mut all = Vec::with_capacity(vectors.len() / self.inputs * self.outputs);
        for vector in vectors.chunks_exact(self.inputs) {
            let rows = self.weight.chunks_exact(self.inputs);
            all.extend(rows.enumerate().map(|(at, row)| {
                let sum = dot(row, vector) + self.bias.as_ref().map_or(0.0, |bias| bias[at]);
                if self.tanh { sum.tanh() } else { sum }
            }));
        }
        all
    }
}

/// Σ a·b, in the same order whatever the machine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        let dense = |bias: Option<Vec<f32>>, tanh| Dense {
            weight: vec![1.0, 2.0, 0.0, -1.0, 0.5, 0.5],
            bias,
            inputs: 2,
            outputs: 3,
            tanh,
        };
        assert_eq!(dense(None, false).of_all(&[1.0, 3.0, 2.0, 0.0]), [7.0, -3.0, 2.0, 2.0, 0.0, 1.0]);
        let found = dense(Some(vec![0.0, 3.5, -2.0]), true).of_all(&[1.0, 3.0]);
        assert_eq!(found, [7.0f32.tanh(), 0.5f32.tanh(), 0.0]);
        let long: Vec<f32> = (0..35).map(|at| at as f32).collect();
        assert_eq!(dot(&long, &long), (0..35).map(|at| (at * at) as f32).sum::<f32>());
    }
}
