//! The port to where packed weights outlive the process. The engine asks it before it packs and tells it after; what it
//! keeps, where, and for how long, is the binary's affair.

use std::path::Path;
use std::sync::Arc;

use weights::packed::Part;
use weights::{Gguf, PackedFile};

/// Packed weights of earlier runs, given by the binary.
pub trait PackedStore: Send + Sync {
    /// The packed weights of this version of the file. `None`: none are kept, or they are of no use; that is no error.
    fn find(&self, path: &Path, file: &Gguf) -> Option<PackedFile>;

    /// Told what was packed. Returns at once, whatever is done with it. The parts live as long as the model does: who
    /// goes on with them afterwards holds only a [`std::sync::Weak`], so that an unloaded model's memory is free at once.
    fn keep(&self, path: &Path, file: &Gguf, parts: &Arc<[Part]>);
}
