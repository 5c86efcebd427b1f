//! Products of one matrix with a batch: `out[t][r] = Σ_k weight[r][k] · x[t][k]`, through the same front as models use,
//! so that quantising the activations and sharing out the work count too.
//!
//! Bytes: the matrix as its file stores it, once a product. Operations: 2 · rows · columns · batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernels::{BlockType, Compute, Cpu, MatrixSource};
use serde::Deserialize;
use serde_json::json;

use crate::{Arguments, Limits};

/// Rounds of a measurement, at least.
const ROUNDS_MIN: usize = 3;
/// Sides of a matrix when only the machinery is tried; all block types divide them.
const SIDE_TEST: usize = 256;

/// What `kernels.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    types: Vec<String>,
    batches: Vec<usize>,
    seconds: f64,
    stream_bytes: usize,
    int8_ops_per_cycle: BTreeMap<String, f64>,
    matrix: Vec<Matrix>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    name: String,
    rows: usize,
    columns: usize,
}

/// How long, and over how much.
#[derive(Debug, Clone, Copy)]
struct Effort {
    time: Duration,
    stream_bytes: usize,
}

/// Prints the limits, then a line for each product whose description has all words of the filter.
pub(crate) fn run(
    arguments: &Arguments,
    definition: &Definition,
    filter: &[&str],
    limits: Limits,
) -> Result<()> {
    let mut compute = Cpu::with_level(arguments.threads, arguments.level);
    let level = arguments.level.name();
    let ops = definition.int8_ops_per_cycle.get(level);
    let ops = ops.with_context(|| format!("[int8_ops_per_cycle] says nothing of {level}"))?;
    let peak_gops = ops * limits.clock_ghz * arguments.threads as f64;
    println!(
        "{}",
        json!({
            "limits": {
                "bandwidth_gb_per_s": limits.bandwidth_gb_per_s, "clock_ghz": limits.clock_ghz,
                "peak_gops": peak_gops, "threads": arguments.threads, "kernels": level,
            }
        })
    );
    let effort = match arguments.test {
        true => Effort { time: Duration::ZERO, stream_bytes: 0 },
        false => Effort {
            time: Duration::from_secs_f64(definition.seconds),
            stream_bytes: definition.stream_bytes,
        },
    };
    for matrix in &definition.matrix {
        let matrix = if arguments.test { matrix.small() } else { matrix.clone() };
        for name in &definition.types {
            let kind = type_named(name)?;
            let wanted: Vec<usize> = definition
                .batches
                .iter()
                .copied()
                .filter(|batch| {
                    let words = format!("{} {name} {batch}", matrix.name);
                    filter.iter().all(|wanted| words.split(' ').any(|word| word == *wanted))
                })
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let weights = copies(&mut compute, &matrix, kind, effort.stream_bytes)?;
            for batch in wanted {
                let time = time(&mut compute, &matrix, &weights, batch, effort)?;
                let bytes = kind.row_bytes(matrix.columns).unwrap_or_default() * matrix.rows;
                let gb_per_s = bytes as f64 / time.as_secs_f64() / 1e9;
                let gops = 2.0 * (matrix.rows * matrix.columns * batch) as f64 / time.as_secs_f64() / 1e9;
                println!(
                    "{}",
                    json!({
                        "matrix": matrix.name, "rows": matrix.rows, "columns": matrix.columns, "type": name,
                        "batch": batch, "us": time.as_secs_f64() * 1e6, "gb_per_s": gb_per_s, "gops": gops,
                        "share_of_bandwidth": gb_per_s / limits.bandwidth_gb_per_s,
                        "share_of_peak": gops / peak_gops,
                    })
                );
            }
        }
    }
    Ok(())
}

impl Matrix {
    fn small(&self) -> Self {
        Self { rows: self.rows.min(SIDE_TEST), columns: self.columns.min(SIDE_TEST), ..self.clone() }
    }
}

fn type_named(name: &str) -> Result<BlockType> {
    let found = BlockType::ALL.into_iter().find(|kind| kind.name() == name);
    found.with_context(|| format!("there is no block type \"{name}\""))
}

/// The matrix often enough to fill `stream_bytes`, each copy in memory of its own.
fn copies(
    compute: &mut Cpu,
    matrix: &Matrix,
    kind: BlockType,
    stream_bytes: usize,
) -> Result<Vec<<Cpu as Compute>::Matrix>> {
    let Matrix { name, rows, columns } = matrix;
    let bytes = seeded::shapes::random_matrix(name, kind, *columns, *rows);
    let count = stream_bytes.div_ceil(bytes.len().max(1)).max(1);
    let one = |_| {
        let source = MatrixSource {
            range: 0..bytes.len(),
            storage: Arc::new(bytes.clone()),
            kind,
            rows: *rows,
            columns: *columns,
            use_for_products: true,
        };
        Ok(compute.matrix(source)?)
    };
    (0..count).map(one).collect()
}

/// The median time of one product.
fn time(
    compute: &mut Cpu,
    matrix: &Matrix,
    weights: &[<Cpu as Compute>::Matrix],
    batch: usize,
    effort: Effort,
) -> Result<Duration> {
    let Matrix { rows, columns, .. } = *matrix;
    let values = seeded::shapes::random_matrix("activations", BlockType::F16, columns, batch);
    let table = compute.matrix(MatrixSource {
        range: 0..values.len(),
        storage: Arc::new(values),
        kind: BlockType::F16,
        rows: batch,
        columns,
        use_for_products: false,
    })?;
    let tokens: Vec<u32> = (0..batch as u32).collect();
    let (mut x, mut out) = (compute.activation(columns), compute.activation(rows));
    let (began, mut times) = (Instant::now(), Vec::new());
    let mut round = 0;
    while round <= ROUNDS_MIN || began.elapsed() < effort.time {
        for weight in weights {
            // Fresh activations: a device may keep a quantised form beside those it has seen.
            compute.embed(&table, &tokens, 1.0, &mut x);
            let start = Instant::now();
            compute.matmul(weight, &mut x, &mut out);
            let taken = start.elapsed();
            // The first round takes memory.
            if round > 0 {
                times.push(taken);
            }
        }
        round += 1;
        if effort.time.is_zero() && round > 1 {
            break;
        }
    }
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default().max(Duration::from_nanos(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_that_ships_is_sound() {
        let definition =
            crate::read(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels.toml").as_ref()).expect("reads");
        for name in &definition.types {
            let kind = type_named(name).expect("a type");
            for matrix in &definition.matrix {
                assert!(kind.row_bytes(matrix.columns).is_some(), "{name} {}", matrix.name);
            }
        }
        for level in kernels::Level::available() {
            assert!(definition.int8_ops_per_cycle.contains_key(level.name()), "{}", level.name());
        }
        assert!(type_named("Q99").is_err());
    }

    #[test]
    fn copies_fill_what_shall_stream() {
        let mut compute = Cpu::new(1);
        let matrix = Matrix { name: "x".to_owned(), rows: 16, columns: 256 };
        let bytes = 16 * 144;
        for (stream, expected) in [(0, 1), (bytes, 1), (bytes + 1, 2), (5 * bytes, 5)] {
            let made = copies(&mut compute, &matrix, BlockType::Q4_K, stream).expect("made");
            assert_eq!(made.len(), expected, "{stream}");
        }
    }
}
