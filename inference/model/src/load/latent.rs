//! The weights of attention whose keys and values are made of one short vector a token. Rows are put in the order that
//! `forward` wants: of each head's query what turns comes first, and keys and values are apart.

use std::sync::{Arc, OnceLock};

use kernels::{BlockType, Compute, MatrixPlace, MatrixSource};
use weights::View;

use super::{LatentWeights, Linear, Loader};
use crate::error::ModelError;
use crate::shape::{Latent, Plan, Shape};

impl<C: Compute> Loader<'_, C> {
    pub(super) fn latent(
        &mut self,
        plan: &Plan,
        latent: &Latent,
        name: &dyn Fn(&str) -> String,
    ) -> Result<LatentWeights<C>, ModelError> {
        let Shape { width, heads, head_width, rope_width, .. } = plan.shape;
        let Latent { query_rank, rank, plain_width, value_width } = *latent;
        let (query_down, from, query) = match query_rank {
            0 => (None, width, name("attn_q")),
            rank => {
                let down = self.linear(&name("attn_q_a"), rank, width)?;
                (Some((down, self.norm(&name("attn_q_a_norm"), rank)?)), rank, name("attn_q_b"))
            }
        };
        let turned_first: Vec<usize> = (0..heads)
            .map(|head| head * head_width)
            .flat_map(|first| (first + plain_width..first + head_width).chain(first..first + plain_width))
            .collect();
        let query = self.rows_of(&query, heads * head_width, from, &turned_first, "turned")?;
        let both = name("attn_kv_a_mqa");
        let down = self.linear_of(&both, 0..rank, rank + rope_width, width)?;
        let turned = self.linear_of(&both, rank..rank + rope_width, rank + rope_width, width)?;
        let norm = self.norm(&name("attn_kv_a_norm"), rank)?;
        let (keys, values) = self.keys_and_values(name, heads, [plain_width, value_width], rank)?;
        Ok(LatentWeights { query_down, query, down, norm, turned, keys, values })
    }

    /// One tensor with keys and values head by head, or two, of which that of keys has rows and columns exchanged.
    fn keys_and_values(
        &mut self,
        name: &dyn Fn(&str) -> String,
        heads: usize,
        [plain, value]: [usize; 2],
        rank: usize,
    ) -> Result<(Linear<C>, Linear<C>), ModelError> {
        let both = name("attn_kv_b");
        if self.file.tensor(&format!("{both}.weight")).is_some() {
            let rows = heads * (plain + value);
            let of = |from: usize, len: usize| -> Vec<usize> {
                let first = |head: usize| head * (plain + value) + from;
                (0..heads).flat_map(|head| first(head)..first(head) + len).collect()
            };
            let keys = self.rows_of(&both, rows, rank, &of(0, plain), "keys")?;
            return Ok((keys, self.rows_of(&both, rows, rank, &of(plain, value), "values")?));
        }
        let (keys, values) = (name("attn_k_b.weight"), name("attn_v_b.weight"));
        let tensor = self.checked(&values, &[rank, value, heads])?.clone();
        let view = self.file.view(&tensor);
        let values =
            Linear { weight: self.part(&tensor, &view, &values, 0..heads * value, true)?, bias: None };
        let tensor = self.checked(&keys, &[plain, rank, heads])?.clone();
        let exchanged = self.values(&keys)?.unwrap_or_default();
        // Half the bytes of f32, and as exact as the types that such tensors come in.
        let kind = if tensor.block_type == BlockType::F32 { BlockType::F32 } else { BlockType::F16 };
        let mut rows = Vec::with_capacity(exchanged.len());
        for head in exchanged.chunks_exact(plain * rank) {
            for column in 0..plain {
                rows.extend(head.chunks_exact(plain).map(|row| row[column]));
            }
        }
        let mut bytes = vec![0; rows.len() * kind.block_bytes()];
        kernels::encode::encode(kind, &rows, None, &mut bytes).map_err(|error| ModelError::Value {
            key: keys.clone(),
            value: error.to_string(),
            why: "it cannot be put in the order that is needed",
        })?;
        let range = 0..bytes.len();
        let mut tensor = tensor;
        // What comes in on this side says nothing of the tensor's own columns: it is no importance of theirs.
        tensor.name.push_str(".exchanged");
        (tensor.shape, tensor.block_type) = (vec![rank, heads * plain], kind);
        let view = View { storage: Arc::new(bytes), range };
        let weight = self.part(&tensor, &view, &keys, 0..heads * plain, true)?;
        Ok((Linear { weight, bias: None }, values))
    }

    /// Rows of a tensor in another order. `what` tells several apart that are made of one.
    fn rows_of(
        &mut self,
        prefix: &str,
        rows: usize,
        columns: usize,
        order: &[usize],
        what: &str,
    ) -> Result<Linear<C>, ModelError> {
        let name = format!("{prefix}.weight");
        let stored = self.checked(&name, &[columns, rows])?.clone();
        let mut tensor = stored.clone();
        tensor.shape = vec![columns, order.len()];
        let own_name = format!("{name}.{what}");
        let again =
            Reordered { of: self.file.unmade(&stored), rows, order: order.into(), made: OnceLock::new() };
        let bytes = again.made_of(&self.file.view(&stored));
        let view = View { range: 0..bytes.len(), storage: Arc::new(bytes) };
        let weight = self.part(&tensor, &view, &own_name, 0..order.len(), true)?;
        let Some(form) = self.compute.own_form(&weight) else { return Ok(Linear { weight, bias: None }) };
        // One copy at a time, the device's: should anybody look at the rows, they are made again.
        self.release(&stored, &weight);
        self.compute.next_matrix_is(&tensor.name, MatrixPlace::ALONE);
        let kind = tensor.block_type;
        let (storage, rows) = (Arc::new(again), order.len());
        let source = MatrixSource { storage, range: view.range, kind, rows, columns, use_for_products: true };
        let weight = self.compute.stored_matrix(source, form).unwrap_or(weight);
        Ok(Linear { weight, bias: None })
    }
}

/// Rows of a tensor in another order, made when somebody looks.
struct Reordered {
    of: View,
    rows: usize,
    order: Box<[usize]>,
    made: OnceLock<Vec<u8>>,
}

impl Reordered {
    fn made_of(&self, of: &View) -> Vec<u8> {
        let all = &(*of.storage).as_ref()[of.range.clone()];
        let row_bytes = all.len() / self.rows;
        self.order.iter().flat_map(|row| &all[row * row_bytes..][..row_bytes]).copied().collect()
    }
}

impl AsRef<[u8]> for Reordered {
    fn as_ref(&self) -> &[u8] {
        self.made.get_or_init(|| self.made_of(&self.of))
    }
}
