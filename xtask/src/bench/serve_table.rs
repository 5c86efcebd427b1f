//! What the crowds saw, side by side: medians of the rounds, their range, and how the first engine compares. Behind
//! `serve`, which measures; this only shows.

use serde_json::{Value as Json, json};

use super::results::{aligned, median, range, short};
use super::serve::Load;

/// One server under one crowd.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) engine: String,
    pub(super) load: Load,
    /// What `benches serve` told.
    pub(super) figures: Json,
    /// What the machine could do just before.
    pub(super) probe: Json,
    pub(super) foreign_cores: Option<f64>,
}

/// Title, key, factor.
const ROWS: [(&str, &str, f64); 8] = [
    ("tokens/s", "tokens_per_s", 1.0),
    ("first token p50, ms", "first_ms_p50", 1.0),
    ("first token p95, ms", "first_ms_p95", 1.0),
    ("between tokens p50, ms", "gap_ms_p50", 1.0),
    ("between tokens p95, ms", "gap_ms_p95", 1.0),
    ("prompt from cache, %", "cached_share", 100.0),
    ("peak memory, MB", "peak_bytes", 1e-6),
    ("errors", "errors", 1.0),
];

impl Sample {
    pub(super) fn errors(&self) -> u64 {
        self.figures["errors"].as_u64().unwrap_or(u64::MAX)
    }

    fn figure(&self, key: &str) -> Option<f64> {
        match key {
            "cached_share" => {
                Some(self.figures["cached_tokens"].as_f64()? / self.figures["prompt_tokens"].as_f64()?)
            }
            key => self.figures[key].as_f64(),
        }
    }

    /// For whoever waits.
    pub(super) fn line(&self) -> String {
        let figure = |key: &str| self.figure(key).map_or_else(|| "?".to_owned(), short);
        format!(
            "{:<10} {} × {}: {} tokens/s, first after {} / {} ms, then every {} / {} ms, {} errors  (probe {} GB/s, \
             others use {} cores)",
            self.engine,
            self.load.clients,
            self.load.requests,
            figure("tokens_per_s"),
            figure("first_ms_p50"),
            figure("first_ms_p95"),
            figure("gap_ms_p50"),
            figure("gap_ms_p95"),
            self.errors(),
            self.probe["bandwidth_gb_per_s"].as_f64().map_or_else(|| "?".to_owned(), short),
            self.foreign_cores.map_or_else(|| "?".to_owned(), |cores| format!("{cores:.2}")),
        )
    }

    /// A result's fields.
    pub(super) fn fields(&self, model: &str, round: usize) -> [(&'static str, Json); 7] {
        [
            ("model", model.into()),
            ("round", round.into()),
            ("engine", self.engine.clone().into()),
            ("load_of", json!({"clients": self.load.clients, "requests": self.load.requests})),
            ("probe", self.probe.clone()),
            ("foreign_cores", self.foreign_cores.map_or(Json::Null, Into::into)),
            ("figures", self.figures.clone()),
        ]
    }
}

/// A block of rows for each load.
pub(super) fn table(samples: &[Sample]) -> String {
    let mut engines: Vec<&str> = Vec::new();
    let mut loads: Vec<Load> = Vec::new();
    for sample in samples {
        if !engines.contains(&sample.engine.as_str()) {
            engines.push(&sample.engine);
        }
        if !loads.contains(&sample.load) {
            loads.push(sample.load);
        }
    }
    let Some((first, others)) = engines.split_first() else { return "nothing was measured\n".to_owned() };
    let mut header = vec!["clients × requests".to_owned()];
    for engine in &engines {
        header.extend([(*engine).to_owned(), "from–to".to_owned()]);
    }
    header.extend(others.iter().map(|engine| format!("{first}/{engine}")));
    let mut lines = vec![header];
    for load in loads {
        for (title, key, factor) in ROWS {
            let of = |engine: &str| -> Vec<f64> {
                let ours = samples.iter().filter(|sample| sample.engine == engine && sample.load == load);
                ours.filter_map(|sample| Some(sample.figure(key)? * factor)).collect()
            };
            let mut line = vec![format!("{} × {}  {title}", load.clients, load.requests)];
            for engine in &engines {
                let values = of(engine);
                line.extend([median(&values).map_or_else(String::new, short), range(&values)]);
            }
            for engine in others {
                let ratio = median(&of(first)).zip(median(&of(engine))).filter(|(_, theirs)| *theirs > 0.0);
                line.push(ratio.map_or_else(String::new, |(ours, theirs)| format!("{:.2}", ours / theirs)));
            }
            lines.push(line);
        }
    }
    aligned(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(engine: &str, clients: usize, speed: f64) -> Sample {
        let figures = json!({
            "tokens_per_s": speed, "first_ms_p95": 100.0, "errors": 0, "cached_tokens": 30, "prompt_tokens": 40,
        });
        let load = Load { clients, requests: 2 };
        Sample { engine: engine.to_owned(), load, figures, probe: Json::Null, foreign_cores: None }
    }

    #[test]
    fn medians_side_by_side() {
        let samples = [
            sample("ondol", 1, 50.0),
            sample("other", 1, 20.0),
            sample("ondol", 16, 300.0),
            sample("other", 16, 100.0),
            sample("ondol", 1, 70.0),
            sample("other", 1, 30.0),
        ];
        let table = table(&samples);
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for expected in [
            "clients × requests ondol from–to other from–to ondol/other",
            "1 × 2 tokens/s 60.0 50.0–70.0 25.0 20.0–30.0 2.40",
            "16 × 2 tokens/s 300 300–300 100 100–100 3.00",
            "1 × 2 prompt from cache, % 75.0 75.0–75.0 75.0 75.0–75.0 1.00",
            "16 × 2 errors 0.00 0.00–0.00 0.00 0.00–0.00",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected:?} is not in\n{table}");
        }
        assert_eq!(super::table(&[]), "nothing was measured\n");
    }
}
