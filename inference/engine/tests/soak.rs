//! Many short requests with random aborts, and what the process is left with: anonymous memory, file descriptors,
//! threads. A small number by default, so that the program itself stays true; the soak is
//!
//! ```sh
//! ONDOL_SOAK_REQUESTS=100000 cargo test --release -p engine --test soak -- --nocapture
//! ```
//!
//! Only on Linux, whose `/proc` tells.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::{Event, EventSink, GenerateError, Generator, Input, Request};
use engine::{Host, HostConfig, LocatedModel, ModelSource};
use kernels::BlockType;
use seeded::Family;

/// Requests under way at once.
const CROWD: usize = 32;
/// Enough to see a leak of a few pages, few enough for every run of the tests.
const REQUESTS: usize = 1_000;
/// What a request may leave behind; the first ones fill caches, so a tenth of them goes before the first look.
const BYTES_A_REQUEST: f64 = 1024.0;

struct One(std::path::PathBuf);

impl ModelSource for One {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        Ok(LocatedModel::bare(name, &self.0))
    }
}

/// Counts what comes, leaves after so many events, and says when it is dropped: nothing follows then.
struct Listener {
    events: usize,
    ends: Arc<Mutex<[usize; 3]>>,
    ended: bool,
    gone: SyncSender<()>,
}

impl EventSink for Listener {
    fn send(&mut self, event: Event) -> bool {
        assert!(!self.ended, "an event after the last");
        self.ended = matches!(event, Event::Finished(_) | Event::Failed(_));
        self.events = self.events.saturating_sub(1);
        match event {
            Event::Finished(_) => self.ends.lock().unwrap()[0] += 1,
            Event::Failed(_) => self.ends.lock().unwrap()[1] += 1,
            _ => {}
        }
        self.events > 0
    }

    fn is_open(&self) -> bool {
        self.events > 0
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.ended {
            self.ends.lock().unwrap()[2] += 1;
        }
        let _ = self.gone.send(());
    }
}

/// Anonymous bytes, file descriptors, threads.
fn process() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let number = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (number("RssAnon:") * 1024, descriptors, number("Threads:") as usize)
}

fn random(state: &AtomicUsize, end: usize) -> usize {
    let mut z = state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed) as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as usize % end
}

fn submit(host: &Host, state: &AtomicUsize, ends: &Arc<Mutex<[usize; 3]>>, gone: &SyncSender<()>) {
    let length = 1 + random(state, 60);
    let tokens = (0..length).map(|at| if at < 20 { 5 } else { random(state, 250) as u32 });
    let mut request = Request::new("tiny", Input::Tokens(tokens.collect()));
    request.limits.new_tokens_max = Some(1 + random(state, 12) as u32);
    request.sampling.seed = Some(random(state, 1 << 30) as u64);
    request.tenant = Some(format!("user {}", random(state, 1 << 20)));
    // One in three leaves: before anything came, or in the middle.
    let events = if random(state, 3) == 0 { random(state, 6) } else { usize::MAX };
    let listener = Listener { events, ends: Arc::clone(ends), ended: false, gone: gone.clone() };
    host.submit(request, Box::new(listener));
}

/// So many requests, never more than a crowd of them at once.
fn crowd(host: &Host, count: usize, state: &AtomicUsize, ends: &Arc<Mutex<[usize; 3]>>) {
    let (gone, over): (SyncSender<()>, Receiver<()>) = sync_channel(CROWD);
    for index in 0..count {
        if index >= CROWD {
            over.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        submit(host, state, ends, &gone);
    }
    for _ in 0..CROWD.min(count) {
        over.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

#[test]
fn requests_leave_nothing_behind() {
    let asked = std::env::var("ONDOL_SOAK_REQUESTS").ok().and_then(|count| count.parse().ok());
    let count = asked.unwrap_or(REQUESTS);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    std::fs::write(&path, seeded::tiny(Family::Llama, BlockType::Q8_0)).unwrap();
    // A cache that is full before the first look: what it keeps is no leak.
    let config = HostConfig {
        threads: Some(1),
        memory_bytes: Some(256 << 20),
        prefix_cache_bytes: Some(1 << 20),
        ..HostConfig::default()
    };
    let host = Host::new(Arc::new(One(path)), config);
    let (state, ends) = (AtomicUsize::new(1), Arc::<Mutex<[usize; 3]>>::default());
    crowd(&host, (count / 10).max(200), &state, &ends);
    let before = process();
    let began = Instant::now();
    crowd(&host, count, &state, &ends);
    let took = began.elapsed();
    let after = process();
    let [finished, failed, left] = *ends.lock().unwrap();
    let growth = (after.0 as f64 - before.0 as f64) / count as f64;
    println!(
        "{count} requests in {took:?}: {finished} finished, {left} left, {failed} failed; anonymous memory {} → {} KiB, \
         {growth:.1} bytes a request; descriptors {} → {}, threads {} → {}",
        before.0 / 1024,
        after.0 / 1024,
        before.1,
        after.1,
        before.2,
        after.2,
    );
    assert_eq!(finished + failed + left, count + (count / 10).max(200), "every request ends once");
    assert!(failed == 0 && left > 0 && finished > left);
    assert_eq!((before.1, before.2), (after.1, after.2), "descriptors and threads");
    // A thousand requests say little about bytes; a page or two of the allocator's is no leak.
    assert!(count < 20_000 || growth < BYTES_A_REQUEST, "{growth:.1} bytes a request stay");
}
