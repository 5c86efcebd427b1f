//! Why a file of packed weights is not used.

use std::io;
use std::path::PathBuf;

/// What is wrong with a file of packed weights. Nothing is lost with one: the weights are packed anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackedError {
    /// The file could not be opened or mapped.
    #[error("cannot open the packed weights {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It does not begin as files of packed weights do.
    #[error("not a file of packed weights, or one that was never finished")]
    Magic,
    /// The file is of another version of this program.
    #[error(
        "the packed weights are in version {container} of their file and version {layout} of their layout, here are \
         {CONTAINER} and {LAYOUT}; they are packed anew",
        CONTAINER = super::table::CONTAINER,
        LAYOUT = kernels::pack::LAYOUT
    )]
    Version {
        /// Version of the file.
        container: u32,
        /// Version of what is in it.
        layout: u32,
    },
    /// Part of the file is missing, or something follows it.
    #[error("the packed weights have {found} bytes instead of {wanted}; they are packed anew")]
    Length {
        /// Bytes the file should have.
        wanted: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A sum is not that of the bytes it was made of.
    #[error("the packed weights are damaged: the sum of {what} is another; they are packed anew")]
    Sum {
        /// What was summed.
        what: String,
    },
    /// The weights were packed from another file, or another version of it.
    #[error("the weights were packed from another version of the model's file; they are packed anew")]
    Source,
    /// A description of a tensor that cannot be true.
    #[error("the packed weights are damaged: entry {index} of the table {problem}; they are packed anew")]
    Entry {
        /// Position in the table, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something that cannot be written in the form of the file.
    #[error("these weights cannot be kept: {0}")]
    NotWritable(&'static str),
}
