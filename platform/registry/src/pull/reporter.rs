//! Progress on its way out, thinned: a fast download would otherwise report thousands of times a second.

use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::progress::Progress;

/// Shortest time between two reports of bytes.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Reporter<'a> {
    progress: &'a mut (dyn FnMut(Progress) + Send),
    last: Option<Instant>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(progress: &'a mut (dyn FnMut(Progress) + Send)) -> Self {
        Self { progress, last: None }
    }

    /// Reports a step. Never held back.
    pub(super) fn step(&mut self, step: Progress) {
        self.last = None;
        (self.progress)(step);
    }

    /// Reports bytes, unless it did so a moment ago. The first and the last are never held back.
    pub(super) fn bytes(&mut self, digest: Option<&Digest>, total: u64, completed: u64) {
        let now = Instant::now();
        let recent = self.last.is_some_and(|last| now.duration_since(last) < PAUSE);
        if recent && completed != total {
            return;
        }
        self.last = Some(now);
        let digest = digest.map(Digest::to_string).unwrap_or_default();
        (self.progress)(Progress::Pulling { digest, total, completed });
    }
}
