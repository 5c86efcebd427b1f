//! An encoder from a file: every tensor found, checked against the plan and handed to the device.
//! Shapes are checked here, so that the forward pass may take them for granted.

use std::ops::Range;

use kernels::{BlockType, Compute, MatrixSource};
use weights::packed::Part;
use weights::{Gguf, PackedFile};

use super::plan::{EncoderShape, Plan, plan};
use crate::error::ModelError;
use crate::load::{Linear, Loader, PackedParts};
use crate::shape::Reader;

/// How exactly floats are multiplied, on machines where shorter ones are faster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Products {
    /// F32 weights in f32; F16 and BF16 weights, which were rounded once already, in bfloat16.
    #[default]
    AsStored,
    /// In f32.
    Exact,
    /// In bfloat16: see [`Compute::batch_matrix`].
    Rounded,
}

impl Products {
    /// Whether weights of this type are rounded.
    pub(super) const fn round(self, kind: BlockType) -> bool {
        match self {
            Self::AsStored => matches!(kind, BlockType::F16 | BlockType::BF16),
            Self::Exact => false,
            Self::Rounded => true,
        }
    }
}

/// An encoder on a device.
pub struct Encoder<C: Compute> {
    pub(super) plan: Plan,
    pub(super) embedding: C::Matrix,
    pub(super) positions: Option<C::Matrix>,
    pub(super) types: Option<C::Matrix>,
    pub(super) embedding_norm: Norm<C>,
    pub(super) layers: Vec<LayerWeights<C>>,
    pub(super) output_norm: Option<Norm<C>>,
    pub(super) head: Option<HeadWeights<C>>,
    vocab: usize,
    type_count: usize,
    weight_bytes: u64,
}

/// A norm: gain and, in files that have one, bias.
pub(super) struct Norm<C: Compute> {
    pub gain: C::Vector,
    pub bias: Option<C::Vector>,
}

/// The weights of one layer. Shapes are `[rows × columns]`.
pub(super) struct LayerWeights<C: Compute> {
    /// Of layers that norm what goes in; the first of a ModernBERT has none.
    pub attention_norm: Option<Norm<C>>,
    /// `[width × width]`.
    pub q: Linear<C>,
    pub k: Linear<C>,
    pub v: Linear<C>,
    pub q_norm: Option<Norm<C>>,
    pub k_norm: Option<Norm<C>>,
    /// `[width × width]`.
    pub output: Linear<C>,
    /// Of layers that norm sums.
    pub attention_sum_norm: Option<Norm<C>>,
    /// A second one, for another sum with the layer's input.
    pub second_sum_norm: Option<Norm<C>>,
    pub ff_norm: Option<Norm<C>>,
    /// `[ff_width × width]`.
    pub gate: Option<Linear<C>>,
    pub up: Linear<C>,
    /// `[width × ff_width]`.
    pub down: Linear<C>,
    pub layer_sum_norm: Option<Norm<C>>,
}

/// A classification head.
pub(super) struct HeadWeights<C: Compute> {
    /// `[width × width]`.
    pub dense: Option<Linear<C>>,
    pub norm: Option<Norm<C>>,
    /// `[outputs × width]`.
    pub output: Linear<C>,
    pub outputs: usize,
}

impl<C: Compute> std::fmt::Debug for Encoder<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("shape", &self.plan.shape)
            .field("vocab", &self.vocab)
            .finish_non_exhaustive()
    }
}

impl<C: Compute> Encoder<C> {
    /// Takes an encoder from its file to a device.
    ///
    /// # Errors
    /// When the architecture is no encoder of ours, or a key or tensor is missing or wrong.
    pub fn load(
        file: &Gguf,
        kept: Option<&PackedFile>,
        products: Products,
        compute: &mut C,
    ) -> Result<(Self, PackedParts), ModelError> {
        let metadata = file.metadata();
        let architecture = metadata.string("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
        let plan = plan(Reader { metadata, architecture })?;
        let loader = Loader { file, kept, parts: PackedParts::default(), compute };
        let mut finder = Finder { loader, products };
        let EncoderShape { width, context_tokens, layers, .. } = plan.shape;
        let (embedding, vocab) = finder.table("token_embd.weight", width)?;
        let positions = match plan.positions {
            super::plan::Positions::Table => Some(finder.positions(width, context_tokens as usize)?),
            _ => None,
        };
        let (types, type_count) = match file.tensor("token_types.weight") {
            Some(_) => finder.table("token_types.weight", width).map(|(table, rows)| (Some(table), rows))?,
            None => (None, 1),
        };
        let embedding_norm = finder.norm("token_embd_norm", width)?;
        let layers = (0..layers).map(|index| finder.layer(&plan, index)).collect::<Result<_, _>>()?;
        let output_norm = plan.pre_norm.then(|| finder.norm("output_norm", width)).transpose()?;
        let head = finder.head(width)?;
        let weight_bytes = file.tensors().iter().map(|tensor| tensor.size_bytes() as u64).sum();
        finder.loader.compute.loaded();
        let parts = finder.loader.parts;
        let encoder = Self {
            plan,
            embedding,
            positions,
            types,
            embedding_norm,
            layers,
            output_norm,
            head,
            vocab,
            type_count,
            weight_bytes,
        };
        Ok((encoder, parts))
    }

    /// Its sizes.
    #[must_use]
    pub const fn shape(&self) -> &EncoderShape {
        &self.plan.shape
    }

    /// Token ids are below this.
    #[must_use]
    pub const fn vocab(&self) -> usize {
        self.vocab
    }

    /// Types of tokens are below this: 2 where the texts of a pair are told apart by it.
    #[must_use]
    pub const fn type_count(&self) -> usize {
        self.type_count
    }

    /// Numbers that its head gives for a text; 0 without one.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.outputs)
    }

    /// Bytes of all weights.
    #[must_use]
    pub const fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

/// Finds tensors.
struct Finder<'a, C: Compute> {
    loader: Loader<'a, C>,
    products: Products,
}

impl<C: Compute> Finder<'_, C> {
    fn has(&self, name: &str) -> bool {
        self.loader.file.tensor(name).is_some()
    }

    /// A table, and how many rows it has.
    fn table(&mut self, name: &str, width: usize) -> Result<(C::Matrix, usize), ModelError> {
        let rows = self.loader.tensor(name)?.rows();
        if rows == 0 || u32::try_from(rows).is_err() {
            let why = "a table has a row at least, and no real one has billions";
            return Err(ModelError::Value { key: name.to_owned(), value: rows.to_string(), why });
        }
        Ok((self.loader.matrix(name, rows, width, false)?, rows))
    }

    fn positions(&mut self, width: usize, context: usize) -> Result<C::Matrix, ModelError> {
        let name = "position_embd.weight";
        let (table, rows) = self.table(name, width)?;
        if rows < context {
            let (found, wanted) = (vec![width, rows], vec![width, context]);
            return Err(ModelError::TensorShape { name: name.to_owned(), found, wanted });
        }
        Ok(table)
    }

    fn norm(&mut self, prefix: &str, width: usize) -> Result<Norm<C>, ModelError> {
        let gain = self.loader.vector(&format!("{prefix}.weight"), width)?;
        Ok(Norm { gain, bias: self.bias(prefix, width, 0..width)? })
    }

    fn norm_if_there(&mut self, prefix: &str, width: usize) -> Result<Option<Norm<C>>, ModelError> {
        let there = self.has(&format!("{prefix}.weight"));
        there.then(|| self.norm(prefix, width)).transpose()
    }

    fn bias(
        &mut self,
        prefix: &str,
        len: usize,
        part: Range<usize>,
    ) -> Result<Option<C::Vector>, ModelError> {
        let name = format!("{prefix}.bias");
        if !self.has(&name) {
            return Ok(None);
        }
        self.loader.checked(&name, &[len])?;
        let values = self.loader.values(&name)?.unwrap_or_default();
        Ok(Some(self.loader.compute.vector(&values[part])))
    }

    fn linear(&mut self, prefix: &str, rows: usize, columns: usize) -> Result<Linear<C>, ModelError> {
        self.linear_part(prefix, rows, columns, 0..rows)
    }

    /// Some rows of a matrix with its bias: several are often kept as one.
    fn linear_part(
        &mut self,
        prefix: &str,
        rows: usize,
        columns: usize,
        part: Range<usize>,
    ) -> Result<Linear<C>, ModelError> {
        let name = format!("{prefix}.weight");
        let tensor = self.loader.checked(&name, &[columns, rows])?.clone();
        let weights::View { storage, range } = self.loader.file.view(&tensor);
        let row_bytes = range.len() / rows;
        let source = MatrixSource {
            storage,
            range: range.start + part.start * row_bytes..range.start + part.end * row_bytes,
            kind: tensor.block_type,
            rows: part.len(),
            columns,
            use_for_products: true,
        };
        let own_name = if part.len() == rows { name } else { format!("{name}.{}", part.start) };
        let weight = self.product(&own_name, source)?;
        Ok(Linear { weight, bias: self.bias(prefix, rows, part)? })
    }

    fn product(&mut self, name: &str, source: MatrixSource) -> Result<C::Matrix, ModelError> {
        let Loader { kept, parts, compute, .. } = &mut self.loader;
        let MatrixSource { kind, rows, columns, .. } = source;
        let rounded = self.products.round(kind);
        let kept = kept.and_then(|kept| {
            let tensor = kept.tensor(name)?;
            let fits = (tensor.kind, tensor.rows, tensor.columns) == (kind, rows, columns);
            let matrix = compute.stored_matrix(source.clone(), kept.form(tensor));
            matrix.ok().filter(|_| fits)
        });
        let new = kept.is_none();
        let matrix = match kept {
            Some(matrix) => Ok(matrix),
            None => compute.batch_matrix(source, rounded),
        };
        let matrix = matrix.map_err(|source| ModelError::Device { name: name.to_owned(), source })?;
        if let Some(form) = compute.own_form(&matrix) {
            parts.new += usize::from(new);
            parts.all.push(Part { name: name.to_owned(), kind, rows, columns, form });
        }
        Ok(matrix)
    }

    fn layer(&mut self, plan: &Plan, index: usize) -> Result<LayerWeights<C>, ModelError> {
        let EncoderShape { width, ff_width, .. } = plan.shape;
        let name = |part: &str| format!("blk.{index}.{part}");
        let [q, k, v] = self.queries_keys_values(&name, width)?;
        let (gate, up) = self.gate_and_up(plan, &name("ffn_gate"), &name("ffn_up"))?;
        let (pre, post) = (plan.pre_norm, !plan.pre_norm);
        Ok(LayerWeights {
            attention_norm: match pre {
                // The norm of the embeddings stands before the first layer already.
                true if index == 0 => self.norm_if_there(&name("attn_norm"), width)?,
                true => Some(self.norm(&name("attn_norm"), width)?),
                false => None,
            },
            q,
            k,
            v,
            q_norm: self.norm_if_there(&name("attn_q_norm"), width)?,
            k_norm: self.norm_if_there(&name("attn_k_norm"), width)?,
            output: self.linear(&name("attn_output"), width, width)?,
            attention_sum_norm: post.then(|| self.norm(&name("attn_output_norm"), width)).transpose()?,
            second_sum_norm: self.norm_if_there(&name("attn_norm_2"), width)?,
            ff_norm: pre.then(|| self.norm(&name("ffn_norm"), width)).transpose()?,
            gate,
            up,
            down: self.linear(&name("ffn_down"), width, ff_width)?,
            layer_sum_norm: post.then(|| self.norm(&name("layer_output_norm"), width)).transpose()?,
        })
    }

    fn queries_keys_values(
        &mut self,
        name: &dyn Fn(&str) -> String,
        width: usize,
    ) -> Result<[Linear<C>; 3], ModelError> {
        let fused = name("attn_qkv");
        if self.has(&format!("{fused}.weight")) {
            let mut part =
                |at: usize| self.linear_part(&fused, 3 * width, width, at * width..(at + 1) * width);
            return Ok([part(0)?, part(1)?, part(2)?]);
        }
        let mut one = |part: &str| self.linear(&name(part), width, width);
        Ok([one("attn_q")?, one("attn_k")?, one("attn_v")?])
    }

    /// A gated feed-forward's two matrices may be one: first what is activated, then what it is multiplied with.
    fn gate_and_up(
        &mut self,
        plan: &Plan,
        gate: &str,
        up: &str,
    ) -> Result<(Option<Linear<C>>, Linear<C>), ModelError> {
        let EncoderShape { width, ff_width, .. } = plan.shape;
        if !plan.gated {
            return Ok((None, self.linear(up, ff_width, width)?));
        }
        if self.has(&format!("{gate}.weight")) {
            return Ok((Some(self.linear(gate, ff_width, width)?), self.linear(up, ff_width, width)?));
        }
        let gate = self.linear_part(up, 2 * ff_width, width, 0..ff_width)?;
        Ok((Some(gate), self.linear_part(up, 2 * ff_width, width, ff_width..2 * ff_width)?))
    }

    fn head(&mut self, width: usize) -> Result<Option<HeadWeights<C>>, ModelError> {
        let rows = |finder: &Self, name: &str| {
            finder.loader.file.tensor(name).map(|tensor| tensor.shape.get(1).copied().unwrap_or(1))
        };
        let (output, outputs) = match (rows(self, "cls.output.weight"), rows(self, "cls.weight")) {
            (Some(outputs), _) => ("cls.output", outputs),
            // Some files call the last matrix so.
            (None, Some(outputs)) if outputs != width => ("cls", outputs),
            _ => return Ok(None),
        };
        let dense = output != "cls" && self.has("cls.weight");
        Ok(Some(HeadWeights {
            dense: dense.then(|| self.linear("cls", width, width)).transpose()?,
            norm: self.norm_if_there("cls.norm", width)?,
            output: self.linear(output, outputs, width)?,
            outputs,
        }))
    }
}
