//! The journeys: what a person does on a clean machine, done by a program. A fresh home, the real binary, real weights
//! through the machine's own package clients, real clients against the server.
//!
//! Each journey prints one line. Where a package client cannot be reached, the journeys that need it say so and do not
//! count as failed, except in CI (`CI=true`), where they must run. Times are printed and never asserted.

mod home;
mod stories;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use home::{Home, Tool};

/// What a journey needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Pip,
    Npm,
}

/// One journey: its name, what it needs, what it does. It returns what there is to say about it.
struct Journey {
    name: &'static str,
    needs: &'static [Need],
    walk: fn(&World) -> Result<String>,
}

/// In this order: later ones find the models that earlier ones pulled, and pull them when run alone.
const JOURNEYS: &[Journey] = &[
    Journey { name: "first-run", needs: &[Need::Pip], walk: stories::first_run },
    Journey { name: "offline", needs: &[Need::Pip], walk: stories::offline },
    Journey { name: "pull-killed", needs: &[Need::Pip], walk: stories::pull_killed },
    Journey { name: "korean", needs: &[Need::Pip], walk: stories::korean },
    Journey { name: "file-in-place", needs: &[Need::Pip], walk: stories::file_in_place },
    Journey { name: "folder", needs: &[Need::Pip], walk: stories::folder },
    Journey { name: "wrong-name", needs: &[], walk: stories::wrong_name },
    Journey { name: "exposure", needs: &[], walk: stories::exposure },
    Journey { name: "clients", needs: &[Need::Pip], walk: stories::clients },
    Journey {
        name: "quality-smollm2",
        needs: &[Need::Pip],
        walk: |world| stories::quality(world, "smollm2", "smollm2.json"),
    },
    Journey {
        name: "quality-gemma3",
        needs: &[Need::Pip],
        walk: |world| stories::quality(world, "gemma3:270m", "gemma3-270m.json"),
    },
    Journey {
        name: "quality-tinyllama",
        needs: &[Need::Npm],
        walk: |world| stories::quality(world, "tinyllama", "tinyllama.json"),
    },
];

/// What all journeys of one run share.
#[derive(Debug)]
struct World {
    root: PathBuf,
    home: Home,
    /// The interpreter that the clients' virtual environment is made of.
    python: PathBuf,
}

/// Walks all journeys, or the one named. `false`: one failed.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<bool> {
    let chosen: Vec<&Journey> =
        JOURNEYS.iter().filter(|journey| only.is_none_or(|name| name == journey.name)).collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no journey has this name: {}",
        JOURNEYS.iter().map(|journey| journey.name).collect::<Vec<_>>().join(", ")
    );
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let world = World { root: root.to_owned(), home: Home::new(root)?, python: home::python()? };
    let wanted = |need: Need| chosen.iter().any(|journey| journey.needs.contains(&need));
    let absent: Vec<(Need, String)> = [(Need::Pip, Tool::PIP), (Need::Npm, Tool::NPM)]
        .into_iter()
        .filter(|(need, _)| wanted(*need))
        .filter_map(|(need, tool)| Some((need, tool.problem(&world.home)?)))
        .collect();
    let mut count = Count::default();
    for journey in chosen {
        match absent.iter().find(|(need, _)| journey.needs.contains(need)) {
            Some((_, problem)) if !strict => count.skip(journey.name, problem),
            Some((_, problem)) => count.fail(journey.name, &format!("CI must run it: {problem}")),
            None => count.walk(journey, &world),
        }
    }
    println!("{} passed, {} failed{}", count.passed, count.failed, count.skipped_text());
    Ok(count.failed == 0)
}

#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    fn walk(&mut self, journey: &Journey, world: &World) {
        let start = Instant::now();
        match (journey.walk)(world).with_context(|| journey.name.to_owned()) {
            Ok(said) => {
                self.passed += 1;
                println!("pass  {:<18} {:>6.1} s  {said}", journey.name, start.elapsed().as_secs_f64());
            }
            Err(error) => self.fail(journey.name, &format!("{error:#}")),
        }
    }

    fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("FAIL  {name:<18} {why}");
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        println!("did not run  {name}: {why}");
    }

    fn skipped_text(&self) -> String {
        match self.skipped {
            0 => String::new(),
            count => format!(", {count} did not run"),
        }
    }
}
