//! A model with its tensors in other types: the one way in which conversion, quantising and quantising while loading make
//! their bytes, so that all of them make the same ones.
//!
//! A [`Plan`] says which type each tensor shall have; [`Recast`] holds what the new file says of itself, and makes its
//! tensors, piece by piece and with several threads, straight from the old ones: never more than one tensor is in memory,
//! and of one that is mapped only pieces. Tensors that keep their type keep their bytes.

use std::io;
use std::sync::Arc;

use kernels::BlockType;
use kernels::encode::{EncodeError, Importance, encode};
use kernels::unpack::unpack;

use crate::error::GgufError;
use crate::gguf::{Failure, Gguf, Origin, Tensor, Value, View, write::Writer};

/// Weights that a thread unpacks at a time, or one row of more: 4 MiB in f32.
const PIECE_WEIGHTS: usize = 1 << 20;

/// Which type each tensor shall have.
pub trait Plan: Send + Sync {
    /// The type of a tensor, one in whose whole blocks its rows can be written.
    fn kind(&self, tensor: &Tensor) -> BlockType;

    /// What errors in the columns of a tensor count, from that row on: they are the same for the rows of one piece.
    fn importance(&self, tensor: &Tensor, row: usize) -> Option<&Importance> {
        let _ = (tensor, row);
        None
    }

    /// Hears of rows that were written: how they were, and what stands for them now. Called from several threads, in any
    /// order.
    fn written(&self, tensor: &Tensor, row: usize, weights: &[f32], bytes: &[u8]) {
        let _ = (tensor, row, weights, bytes);
    }

    /// Rows of a tensor that belong together beside the bound of a piece: no piece has rows of two such groups.
    fn group_rows(&self, tensor: &Tensor) -> usize {
        tensor.rows()
    }
}

/// Why a model could not be written anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecastError {
    /// A tensor that the type cannot hold.
    #[error("tensor \"{name}\" cannot be written as {}: {source}", kind.name())]
    Encode {
        /// The tensor.
        name: String,
        /// The type.
        kind: BlockType,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// The new file cannot be written.
    #[error("cannot write the model: {0}")]
    Write(#[from] io::Error),
}

/// How far the writing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a> {
    /// The tensor that comes next; `None` at the end.
    pub tensor: Option<&'a str>,
    /// Bytes of the new file so far.
    pub bytes: u64,
    /// Bytes that it will have.
    pub total_bytes: u64,
}

/// A model that is about to be written anew.
pub struct Recast {
    source: Gguf,
    plan: Arc<dyn Plan>,
    /// One for each tensor, in their order.
    kinds: Vec<BlockType>,
    header: Writer,
    threads: usize,
}

impl std::fmt::Debug for Recast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recast").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Recast {
    /// A model by a plan, to be made with so many threads. `describe` writes the pairs that are new or other than those of
    /// the source; all others are taken over.
    #[must_use]
    pub fn new(
        source: &Gguf,
        plan: Arc<dyn Plan>,
        threads: usize,
        describe: impl FnOnce(&mut Writer),
    ) -> Self {
        let mut own = Writer::new();
        describe(&mut own);
        let mut header = own.clone();
        for (key, value) in source.metadata().iter() {
            match (key, value) {
                ("general.alignment", Value::U32(alignment)) => _ = header.alignment(alignment),
                (key, _) if own.has(key) => {}
                (key, value) => _ = header.value(key, &value),
            }
        }
        let kinds: Vec<BlockType> = source.tensors().iter().map(|tensor| plan.kind(tensor)).collect();
        for (tensor, kind) in source.tensors().iter().zip(&kinds) {
            header.declare(&tensor.name, &tensor.shape, *kind);
        }
        Self { source: source.clone(), plan, kinds, header, threads: threads.max(1) }
    }

    /// Tensors with the types that they will have.
    pub fn tensors(&self) -> impl Iterator<Item = (&Tensor, BlockType)> {
        self.source.tensors().iter().zip(self.kinds.iter().copied())
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.header.size_bytes()
    }

    /// Writes the file. `told` hears how far it is before each tensor and at the end.
    ///
    /// # Errors
    /// When writing fails, or a weight cannot be held by its new type. What was written is then of no use.
    pub fn write(
        &self,
        out: &mut dyn io::Write,
        told: &mut dyn FnMut(Written<'_>),
    ) -> Result<(), RecastError> {
        let total_bytes = self.size_bytes();
        let mut bytes = self.header.header_bytes();
        let (mut index, mut failure) = (0, None);
        let outcome = self.header.stream(out, &mut |name, size, out| {
            told(Written { tensor: Some(name), bytes, total_bytes });
            let made = self.make(index, &mut |piece| out.write_all(piece));
            index += 1;
            bytes += size as u64;
            made.map_err(|error| match error {
                RecastError::Write(error) => error,
                other => {
                    failure = Some(other);
                    io::Error::other("a tensor cannot be written")
                }
            })
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        outcome?;
        told(Written { tensor: None, bytes: total_bytes, total_bytes });
        Ok(())
    }

    /// The model as its file would be, without the file: tensors of another type than before are made when somebody looks.
    ///
    /// # Errors
    /// When it would be no sound file.
    pub fn view(self) -> Result<Gguf, GgufError> {
        let (stamps, failure) = (self.source.stamps().to_vec(), Failure::default());
        let recast = Arc::new(self);
        let origins = recast.tensors().enumerate().map(|(index, (tensor, kind))| {
            if kind == tensor.block_type {
                return Origin::Of(recast.source.clone(), tensor.clone());
            }
            let (recast, failure) = (Arc::clone(&recast), Arc::clone(&failure));
            Origin::Made(Arc::new(move || recast.bytes(index, &failure)))
        });
        let origins = origins.collect();
        Gguf::assembled(&recast.header, origins, stamps, failure)
    }

    /// The bytes of one tensor; zeros where they cannot be made, and why.
    fn bytes(&self, index: usize, failure: &Failure) -> Vec<u8> {
        let mut bytes = Vec::new();
        let made = self.make(index, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        if let Err(error) = made {
            // The first is the one to tell.
            let _ = failure.set(error.to_string());
            let (tensor, kind) = (&self.source.tensors()[index], self.kinds[index]);
            bytes = vec![0; kind.row_bytes(tensor.row_len()).unwrap_or(0) * tensor.rows()];
        }
        bytes
    }

    /// Makes the bytes of one tensor, in order.
    fn make(&self, index: usize, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), RecastError> {
        let (tensor, kind) = (&self.source.tensors()[index], self.kinds[index]);
        let view = self.source.view(tensor);
        let pieces = Pieces { plan: self.plan.as_ref(), tensor, kind, view: &view };
        let made = pieces.make(self.threads, sink);
        drop(view);
        self.source.release(tensor);
        made
    }
}

/// One tensor on its way to another type.
struct Pieces<'a> {
    plan: &'a dyn Plan,
    tensor: &'a Tensor,
    kind: BlockType,
    view: &'a View,
}

impl Pieces<'_> {
    fn make(&self, threads: usize, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), RecastError> {
        let pieces = self.cut();
        for batch in pieces.chunks(threads) {
            let made: Vec<Result<Vec<u8>, EncodeError>> = std::thread::scope(|scope| {
                let (first, others) = batch.split_first().expect("chunks are not empty");
                let others: Vec<_> =
                    others.iter().map(|piece| scope.spawn(|| self.encode(piece.clone()))).collect();
                let first = self.encode(first.clone());
                let joined = others.into_iter().map(|thread| match thread.join() {
                    Ok(made) => made,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                std::iter::once(first).chain(joined).collect()
            });
            for made in made {
                let bytes = made.map_err(|source| RecastError::Encode {
                    name: crate::error::shown(&self.tensor.name),
                    kind: self.kind,
                    source,
                })?;
                sink(&bytes)?;
            }
        }
        Ok(())
    }

    /// Rows that are encoded together, in order.
    fn cut(&self) -> Vec<std::ops::Range<usize>> {
        let rows = self.tensor.rows();
        let group = self.plan.group_rows(self.tensor).clamp(1, rows.max(1));
        let most = (PIECE_WEIGHTS / self.tensor.row_len()).max(1);
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < rows {
            let end_of_group = (start / group + 1) * group;
            let end = (start + most).min(end_of_group).min(rows);
            pieces.push(start..end);
            start = end;
        }
        pieces
    }

    fn encode(&self, rows: std::ops::Range<usize>) -> Result<Vec<u8>, EncodeError> {
        let row_len = self.tensor.row_len();
        let row_bytes = |kind: BlockType| kind.row_bytes(row_len).expect("rows are whole blocks");
        let from = row_bytes(self.tensor.block_type);
        let bytes = &self.view[rows.start * from..rows.end * from];
        if self.kind == self.tensor.block_type {
            return Ok(bytes.to_vec());
        }
        let mut weights = vec![0.0; rows.len() * row_len];
        unpack(self.tensor.block_type, bytes, &mut weights);
        let mut out = vec![0; rows.len() * row_bytes(self.kind)];
        let importance = self.plan.importance(self.tensor, rows.start);
        let encoded = encode(self.kind, &weights, importance, &mut out);
        encoded.map_err(|error| error.moved(rows.start * row_len))?;
        self.plan.written(self.tensor, rows.start, &weights, &out);
        Ok(out)
    }
}
