//! Watching what matrices are multiplied with: sums of squares, column by column, from which an importance matrix is made.
//! Off unless asked for; then it costs one pass over the activations.

use std::collections::HashMap;

use super::{CpuMatrix, Rows};

/// What one matrix was multiplied with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// `[columns]`: Σ x².
    pub sums: Vec<f64>,
    /// Rows of activations that were seen.
    pub rows: u64,
}

/// What is watched. Matrices are known by the place of their number among those that were named while watching.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The name of the matrix that is made next.
    next: Option<String>,
    seen: HashMap<String, Watched>,
}

impl Watch {
    pub(super) fn next_is(&mut self, name: &str) {
        self.next = Some(name.to_owned());
    }

    pub(super) fn take_name(&mut self) -> Option<Box<str>> {
        self.next.take().map(String::into_boxed_str)
    }

    /// A matrix is about to be multiplied with these rows.
    pub(super) fn saw(&mut self, weight: &CpuMatrix, x: &Rows) {
        let Some(name) = weight.name.as_deref() else { return };
        if !self.seen.contains_key(name) {
            let empty = Watched { sums: vec![0.0; x.width], rows: 0 };
            self.seen.insert(name.to_owned(), empty);
        }
        let Some(watched) = self.seen.get_mut(name) else { return };
        for row in 0..x.rows {
            for (sum, value) in watched.sums.iter_mut().zip(x.row(row)) {
                *sum += f64::from(value * value);
            }
        }
        watched.rows += x.rows as u64;
    }

    pub(super) fn into_seen(self) -> HashMap<String, Watched> {
        self.seen
    }
}
