//! Results kept, as lines of JSON, and shown, as tables of medians: speeds, ratios, and shares of what the machine allows.
//! The last stop of every bench; it measures nothing and judges nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json};

use super::machine::Machine;
use super::programs::Programs;

/// Cores used by others above which a round says little.
const FOREIGN_CORES_MAX: f64 = 0.06;
/// So many undisturbed rounds are enough to leave the others out.
const CLEAN_MIN: usize = 3;

/// The file that grows.
#[derive(Debug)]
pub(super) struct Results<'m> {
    path: PathBuf,
    machine: &'m Machine,
}

impl<'m> Results<'m> {
    /// Test runs have a file of their own, which begins anew.
    pub(super) fn open(programs: &Programs, machine: &'m Machine, test: bool) -> Result<Self> {
        let path = programs.folder.join(if test { "results-test.jsonl" } else { "results.jsonl" });
        if test {
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self { path, machine })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn add(&self, bench: &str, fields: &[(&str, Json)]) -> Result<()> {
        let mut record = Map::from_iter([("bench".to_owned(), Json::from(bench))]);
        if let Json::Object(stamp) = self.machine.stamp() {
            record.extend(stamp);
        }
        record.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let written = file.write_all(format!("{}\n", Json::Object(record)).as_bytes());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// One process of one engine.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) engine: String,
    pub(super) figures: Json,
    /// What the machine could do just before.
    pub(super) probe: Json,
    pub(super) foreign_cores: Option<f64>,
}

impl Sample {
    fn is_clean(&self) -> bool {
        is_clean(self.foreign_cores)
    }

    fn runs(&self) -> &[Json] {
        self.figures["runs"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The figure of a row of the table.
    fn figure(&self, row: &Row) -> Option<f64> {
        match row {
            Row::Work(name) => self.run(name)?["tokens_per_s"].as_f64(),
            Row::Other(_, key, factor) => {
                self.figures[key].as_f64().filter(|value| *value > 0.0).map(|value| value * factor)
            }
        }
    }

    fn run(&self, name: &str) -> Option<&Json> {
        self.runs().iter().find(|run| work_name(run) == name)
    }

    /// For whoever waits.
    pub(super) fn line(&self) -> String {
        let speed =
            |run: &Json| format!("{} {:.1}", work_name(run), run["tokens_per_s"].as_f64().unwrap_or(0.0));
        let speeds: Vec<String> = self.runs().iter().map(speed).collect();
        let probe = self.probe["bandwidth_gb_per_s"].as_f64().unwrap_or(0.0);
        let others =
            self.foreign_cores.map_or_else(String::new, |cores| format!(", others use {cores:.2} cores"));
        format!("{:<10} {}  (probe {probe:.1} GB/s{others})", self.engine, speeds.join(", "))
    }
}

/// Whether a round with so many cores used by others says something.
pub(super) fn is_clean(foreign_cores: Option<f64>) -> bool {
    foreign_cores.is_none_or(|cores| cores <= FOREIGN_CORES_MAX)
}

/// The samples that count: the clean ones where they are enough, or else all.
pub(super) fn undisturbed<'s, S>(all: &[&'s S], is_clean: impl Fn(&S) -> bool) -> Vec<&'s S> {
    let clean: Vec<&S> = all.iter().copied().filter(|sample| is_clean(sample)).collect();
    if clean.len() >= CLEAN_MIN { clean } else { all.to_vec() }
}

/// `prefill 512`, `decode 128 after 1024`, `decode 128 × 4`.
fn work_name(run: &Json) -> String {
    let number = |key: &str| run[key].as_u64().unwrap_or(0);
    let mut name = format!("{} {}", run["work"].as_str().unwrap_or("?"), number("tokens"));
    if number("context") > 0 {
        name.push_str(&format!(" after {}", number("context")));
    }
    if number("batch") > 1 {
        name.push_str(&format!(" × {}", number("batch")));
    }
    name
}

/// A row of the table of engines.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Work(String),
    /// Title, key, factor.
    Other(&'static str, &'static str, f64),
}

const OTHERS: [Row; 3] = [
    Row::Other("load, s", "load_s", 1.0),
    Row::Other("first token, s", "first_token_s", 1.0),
    Row::Other("peak memory, MB", "peak_bytes", 1e-6),
];

/// Medians of each engine, how they compare, and what the first reaches of the machine's limits. `ops` is what a core does
/// a cycle at most.
pub(super) fn rounds_table(samples: &[Sample], ops: Option<f64>) -> String {
    let mut engines: Vec<&str> = Vec::new();
    for sample in samples {
        if !engines.contains(&sample.engine.as_str()) {
            engines.push(&sample.engine);
        }
    }
    let Some(first) = engines.first() else { return "nothing was measured\n".to_owned() };
    let of = |engine: &str| -> Vec<&Sample> {
        let all: Vec<&Sample> = samples.iter().filter(|sample| sample.engine == engine).collect();
        undisturbed(&all, Sample::is_clean)
    };
    let mut header = vec!["work".to_owned()];
    for engine in &engines {
        header.push((*engine).to_owned());
        header.push("from–to".to_owned());
    }
    header.extend(engines.iter().skip(1).map(|engine| format!("{first}/{engine}")));
    header.extend(["reached".to_owned(), "of limit".to_owned()]);
    let base = of(first);
    let works = base.iter().flat_map(|sample| sample.runs()).map(|run| Row::Work(work_name(run)));
    let mut rows: Vec<Row> = Vec::new();
    for row in works.chain(OTHERS) {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut lines = vec![header];
    for row in &rows {
        let figures =
            |engine: &str| -> Vec<f64> { of(engine).iter().filter_map(|s| s.figure(row)).collect() };
        let ours = median(&figures(first));
        let mut line = vec![match row {
            Row::Work(name) => name.clone(),
            Row::Other(title, ..) => (*title).to_owned(),
        }];
        for engine in &engines {
            let values = figures(engine);
            line.push(median(&values).map_or_else(String::new, short));
            line.push(range(&values));
        }
        for engine in engines.iter().skip(1) {
            let ratio = ours.zip(median(&figures(engine))).map(|(ours, theirs)| ours / theirs);
            line.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
        }
        let (reached, share) = reached(&base, row, ops).unwrap_or_default();
        line.extend([reached, share]);
        lines.push(line);
    }
    format!("{}\n{}", aligned(&lines), remarks(samples, &engines))
}

/// What the first engine reaches in the unit of the work's limit, and its share of that limit: bytes a second of what was
/// probed beside it for decode, operations a second of the peak for prefill.
fn reached(samples: &[&Sample], row: &Row, ops: Option<f64>) -> Option<(String, String)> {
    let Row::Work(name) = row else { return None };
    let values = samples.iter().filter_map(|sample| {
        let run = sample.run(name)?;
        if let Some(streamed) = run["gb_per_s"].as_f64() {
            return Some((streamed, streamed / sample.probe["bandwidth_gb_per_s"].as_f64()?, "GB/s"));
        }
        let weights = sample.figures["matmul_weights"].as_f64()?;
        let gops = 2.0 * weights * run["tokens_per_s"].as_f64()? / 1e9;
        let threads = sample.figures["threads"].as_f64()?;
        Some((gops, gops / (ops? * threads * sample.probe["clock_ghz"].as_f64()?), "GOP/s"))
    });
    let values: Vec<(f64, f64, &str)> = values.collect();
    let unit = values.first()?.2;
    let reached = median(&values.iter().map(|value| value.0).collect::<Vec<_>>())?;
    let share = median(&values.iter().map(|value| value.1).collect::<Vec<_>>())?;
    Some((format!("{} {unit}", short(reached)), format!("{:.0} %", share * 100.0)))
}

/// Rounds that others disturbed, and the state of the memory beside each engine.
fn remarks(samples: &[Sample], engines: &[&str]) -> String {
    let mut out = String::new();
    for engine in engines {
        let of: Vec<&Sample> = samples.iter().filter(|sample| sample.engine == *engine).collect();
        let probes: Vec<f64> =
            of.iter().filter_map(|sample| sample.probe["bandwidth_gb_per_s"].as_f64()).collect();
        let clean = of.iter().filter(|sample| sample.is_clean()).count();
        let used =
            if clean >= CLEAN_MIN { "the medians are theirs" } else { "too few, the medians are of all" };
        out.push_str(&format!(
            "{engine}: probes {} GB/s; {clean} of {} rounds undisturbed: {used}\n",
            range(&probes),
            of.len()
        ));
    }
    out
}

/// The table of `benches kernels`.
pub(super) fn products_table(limits: &Json, products: &[Json]) -> String {
    let number = |value: &Json, key: &str| value[key].as_f64().unwrap_or(0.0);
    let percent = |value: &Json, key: &str| format!("{:.0} %", number(value, key) * 100.0);
    let header =
        ["matrix", "rows × columns", "type", "batch", "µs", "GB/s", "of bandwidth", "GOP/s", "of peak"];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for product in products {
        let text = |key: &str| product[key].as_str().unwrap_or_default().to_owned();
        lines.push(vec![
            text("matrix"),
            format!("{} × {}", product["rows"], product["columns"]),
            text("type"),
            product["batch"].to_string(),
            short(number(product, "us")),
            short(number(product, "gb_per_s")),
            percent(product, "share_of_bandwidth"),
            short(number(product, "gops")),
            percent(product, "share_of_peak"),
        ]);
    }
    format!(
        "kernels: {} on {} threads, {:.1} GB/s, {:.2} GHz, peak {:.0} GOP/s (an estimate: benches/kernels.toml)\n\n{}",
        limits["kernels"].as_str().unwrap_or("?"),
        limits["threads"],
        number(limits, "bandwidth_gb_per_s"),
        number(limits, "clock_ghz"),
        number(limits, "peak_gops"),
        aligned(&lines)
    )
}

/// First column to the left, the others to the right.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            text.push_str(&if at == 0 { format!("{cell}{padding}") } else { format!("  {padding}{cell}") });
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

pub(super) fn range(values: &[f64]) -> String {
    let low = values.iter().copied().reduce(f64::min);
    let high = values.iter().copied().reduce(f64::max);
    low.zip(high).map_or_else(String::new, |(low, high)| format!("{}–{}", short(low), short(high)))
}

/// Three digits, more before the point.
pub(super) fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len().is_multiple_of(2) { (sorted[sorted.len() / 2 - 1] + upper) / 2.0 } else { upper })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(engine: &str, prefill: f64, decode: f64, foreign: f64) -> Sample {
        let mut runs = vec![
            json!({"work": "prefill", "tokens": 512, "tokens_per_s": prefill}),
            json!({"work": "decode", "tokens": 128, "context": 0, "batch": 4, "tokens_per_s": decode}),
        ];
        let mut figures = json!({"load_s": 0.5});
        if engine == "ondol" {
            runs[1]["gb_per_s"] = json!(decode / 2.0);
            figures = json!({"load_s": 0.25, "threads": 2, "matmul_weights": 1e9});
        }
        figures["runs"] = runs.into();
        let probe = json!({"bandwidth_gb_per_s": 50.0, "clock_ghz": 4.0});
        Sample { engine: engine.to_owned(), figures, probe, foreign_cores: Some(foreign) }
    }

    fn words(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_table_compares_medians_and_tells_shares_of_the_limit() {
        let samples = [
            sample("ondol", 500.0, 80.0, 0.0),
            sample("other", 250.0, 40.0, 0.0),
            sample("ondol", 512.0, 84.0, 0.01),
            sample("other", 256.0, 42.0, 0.0),
            sample("ondol", 600.0, 90.0, 0.0),
            sample("other", 260.0, 60.0, 0.0),
            // Somebody else was at work: left out.
            sample("ondol", 5.0, 1.0, 0.9),
        ];
        let table = rounds_table(&samples, Some(256.0));
        let lines: Vec<String> = table.lines().map(words).collect();
        let check =
            |line: &str| assert!(lines.iter().any(|found| found == line), "{line:?} is not in\n{table}");
        check("work ondol from–to other from–to ondol/other reached of limit");
        check("prefill 512 512 500–600 256 250–260 2.00 1024 GOP/s 50 %");
        check("decode 128 × 4 84.0 80.0–90.0 42.0 40.0–60.0 2.00 42.0 GB/s 84 %");
        check("load, s 0.25 0.25–0.25 0.50 0.50–0.50 0.50");
        check("ondol: probes 50.0–50.0 GB/s; 3 of 4 rounds undisturbed: the medians are theirs");
    }

    #[test]
    fn too_few_undisturbed_rounds_use_all() {
        let samples = [sample("ondol", 100.0, 10.0, 0.5), sample("ondol", 300.0, 30.0, 0.0)];
        let table = rounds_table(&samples, None);
        assert!(table.lines().any(|line| words(line) == "prefill 512 200 100–300"), "{table}");
        assert!(table.contains("1 of 2 rounds undisturbed: too few"), "{table}");
        assert_eq!(rounds_table(&[], None), "nothing was measured\n");
    }

    #[test]
    fn works_have_names() {
        for (run, expected) in [
            (json!({"work": "prefill", "tokens": 64}), "prefill 64"),
            (json!({"work": "decode", "tokens": 128, "context": 0, "batch": 1}), "decode 128"),
            (
                json!({"work": "decode", "tokens": 128, "context": 1024, "batch": 16}),
                "decode 128 after 1024 × 16",
            ),
        ] {
            assert_eq!(work_name(&run), expected);
        }
    }
}
