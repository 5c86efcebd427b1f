//! Watching what matrices are multiplied with: sums of squares, column by column, from which an importance matrix is made.
//! Off unless asked for; then it costs one pass over the activations.

use std::collections::HashMap;

use super::{CpuMatrix, Rows};
use crate::compute::MatrixPlace;

/// What the matrices of one tensor were multiplied with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// `[matrix × column]`: Σ x².
    pub sums: Vec<f64>,
    /// Rows of activations that were seen, for each matrix.
    pub rows: Vec<u64>,
}

/// What a matrix is known by.
#[derive(Debug)]
pub(super) struct Name {
    tensor: Box<str>,
    place: MatrixPlace,
}

/// What is watched: matrices that were named while watching.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The name of the matrix that is made next.
    next: Option<Name>,
    seen: HashMap<String, Watched>,
}

impl Watch {
    pub(super) fn next_is(&mut self, tensor: &str, place: MatrixPlace) {
        self.next = Some(Name { tensor: tensor.into(), place });
    }

    pub(super) const fn take_name(&mut self) -> Option<Name> {
        self.next.take()
    }

    /// A matrix is about to be multiplied with these rows.
    pub(super) fn saw(&mut self, weight: &CpuMatrix, x: &Rows) {
        let Some(Name { tensor, place: MatrixPlace { index, count } }) = &weight.name else { return };
        if !self.seen.contains_key(&**tensor) {
            let empty = Watched { sums: vec![0.0; count * x.width], rows: vec![0; *count] };
            self.seen.insert(tensor.to_string(), empty);
        }
        let Some(watched) = self.seen.get_mut(&**tensor) else { return };
        // Parts of one tensor see the same activations.
        let sums = watched.sums.get_mut(index * x.width..(index + 1) * x.width);
        let (Some(sums), Some(rows)) = (sums, watched.rows.get_mut(*index)) else { return };
        for row in 0..x.rows {
            for (sum, value) in sums.iter_mut().zip(x.row(row)) {
                *sum += f64::from(value * value);
            }
        }
        *rows += x.rows as u64;
    }

    pub(super) fn into_seen(self) -> HashMap<String, Watched> {
        self.seen
    }
}
