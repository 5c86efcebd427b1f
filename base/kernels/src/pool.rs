//! A fork-join pool for the operations of one model step.
//!
//! The caller works too, so a pool of `n` threads has `n - 1` workers. Work is an atomic counter of tasks: whoever is
//! free takes the next. A worker *enters* a job while it is open; the caller closes the job when no task is left and
//! waits only for workers that entered. A worker that the system has descheduled before it entered costs nothing,
//! which keeps a busy neighbour on one core from halting every step.
//!
//! Between jobs workers spin briefly (operations follow each other within microseconds), then sleep. Nothing is
//! allocated and no lock is taken in a job, but to wake sleepers.
//!
//! One of the crate's two places with `unsafe`: a job borrows from the caller's stack, and tiles of one output are
//! handed to different threads. Both are wrapped so that callers need none. Tests: unit, below.

#![expect(unsafe_code, reason = "jobs borrow from the caller's stack; see the SAFETY notes")]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// State word: epoch in the upper half, then whether the job takes workers, then how many are inside.
const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const EPOCH: u32 = 32;

/// Rounds of spinning before a worker sleeps: some 30 µs, longer than the gap between two operations.
const SPINS: u32 = 4_000;

type Job = dyn Fn(usize) + Sync;

struct Shared {
    state: AtomicU64,
    /// The job of the current epoch. Written only while the state is closed and nobody is inside.
    job: std::cell::UnsafeCell<Option<*const Job>>,
    tasks: AtomicUsize,
    next: AtomicUsize,
    panicked: AtomicBool,
    quit: AtomicBool,
    sleeping: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written by the one caller while no worker is
// inside (state closed, count zero) and read by workers only between entering and leaving, which the acquire and
// release operations on `state` order.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is dereferenced only while the caller waits in `Pool::run`.
unsafe impl Send for Shared {}

/// Threads that share the work of one caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time; uncontended, since a pool belongs to one engine thread.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller counted. If the system refuses a thread, the pool is smaller.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: std::cell::UnsafeCell::new(None),
            tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("kernels-{index}")).spawn(move || work(&shared)).ok()
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads that take part, the caller counted.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once for each task `0..tasks`, on any thread and in any order, and returns when all are done.
    ///
    /// # Panics
    /// When a task panicked.
    pub fn run(&self, tasks: usize, job: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(job);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let epoch = (shared.state.load(Ordering::Relaxed) >> EPOCH).wrapping_add(1);
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.panicked.store(false, Ordering::Relaxed);
        // SAFETY: the transmute only lengthens the lifetime: `Closing` below closes the job and waits until nobody
        // is inside before this function returns or unwinds, so the pointer is never used afterwards. The write is
        // exclusive because the last `Closing` saw the count at zero and no worker enters a closed job.
        unsafe {
            let job: *const Job = std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Job>(job);
            *shared.job.get() = Some(job);
        }
        shared.state.store((epoch << EPOCH) | OPEN, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            drop(shared.bed.lock().unwrap_or_else(PoisonError::into_inner));
            shared.bell.notify_all();
        }
        {
            let _closing = Closing(shared);
            take_tasks(shared, job);
        }
        assert!(!shared.panicked.load(Ordering::Acquire), "a task of the pool panicked");
    }

    /// Splits a matrix of `out.len() / stride` rows into tiles of at most `rows_max` × `columns_max` and calls `work`
    /// once for each, in parallel. `columns` of each row take part; the rest of the stride is left alone.
    pub fn for_tiles<T, F>(&self, out: &mut [T], shape: TileShape, work: F)
    where
        T: Send,
        F: Fn(Tile<'_, T>) + Sync,
    {
        let TileShape { stride, columns, rows_max, columns_max } = shape;
        assert!(columns <= stride && rows_max > 0 && columns_max > 0, "tiles of {shape:?}");
        if columns == 0 {
            return;
        }
        let rows = out.len() / stride;
        let (down, across) = (rows.div_ceil(rows_max), columns.div_ceil(columns_max));
        let base = SharedPointer(out.as_mut_ptr());
        self.run(down * across, &|task| {
            let (row, column) = (task % down * rows_max, task / down * columns_max);
            let tile = Tile {
                rows: row..(row + rows_max).min(rows),
                columns: column..(column + columns_max).min(columns),
                base: base.get(),
                stride,
                lent: PhantomData,
            };
            work(tile);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        drop(self.shared.bed.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.bell.notify_all();
        for worker in self.workers.drain(..) {
            // A worker ends by panicking only through a bug in this file; there is nobody to tell any more.
            let _ = worker.join();
        }
    }
}

/// Closes the job and waits for those inside, also when the caller's own task panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut rounds = 0u32;
        while self.0.state.load(Ordering::Acquire) & INSIDE != 0 {
            pause(rounds);
            rounds = rounds.saturating_add(1);
        }
    }
}

/// Spin at first; then give the core to whoever the one we wait for competes with.
fn pause(rounds: u32) {
    if rounds < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn take_tasks(shared: &Shared, job: &(dyn Fn(usize) + Sync)) {
    let tasks = shared.tasks.load(Ordering::Relaxed);
    loop {
        let task = shared.next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            return;
        }
        job(task);
    }
}

/// A worker's life.
fn work(shared: &Shared) {
    let mut seen = 0;
    let mut rounds = 0;
    while !shared.quit.load(Ordering::Relaxed) {
        let state = shared.state.load(Ordering::Acquire);
        if state >> EPOCH == seen || state & OPEN == 0 {
            if rounds < SPINS {
                std::hint::spin_loop();
                rounds += 1;
            } else {
                sleep(shared, seen);
                rounds = 0;
            }
            continue;
        }
        if shared.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        seen = state >> EPOCH;
        rounds = 0;
        // SAFETY: this worker entered an open job, so the caller of `run` is waiting for it to leave and the job's
        // borrow is alive; the acquire above makes the pointer visible.
        let job = unsafe { (*shared.job.get()).map(|job| &*job) };
        if let Some(job) = job {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take_tasks(shared, job)));
            if result.is_err() {
                shared.panicked.store(true, Ordering::Release);
            }
        }
        shared.state.fetch_sub(1, Ordering::AcqRel);
    }
}

fn sleep(shared: &Shared, seen: u64) {
    let mut bed = shared.bed.lock().unwrap_or_else(PoisonError::into_inner);
    shared.sleeping.fetch_add(1, Ordering::SeqCst);
    loop {
        let state = shared.state.load(Ordering::SeqCst);
        if shared.quit.load(Ordering::SeqCst) || (state >> EPOCH != seen && state & OPEN != 0) {
            break;
        }
        bed = shared.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleeping.fetch_sub(1, Ordering::SeqCst);
}

/// How [`Pool::for_tiles`] cuts a matrix.
#[derive(Debug, Clone, Copy)]
pub struct TileShape {
    /// Elements from one row to the next.
    pub stride: usize,
    /// Columns in use, at most `stride`.
    pub columns: usize,
    pub rows_max: usize,
    pub columns_max: usize,
}

/// A rectangle of a matrix that one task may write.
#[derive(Debug)]
pub struct Tile<'a, T = f32> {
    rows: Range<usize>,
    columns: Range<usize>,
    base: *mut T,
    stride: usize,
    lent: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// The rows of the whole matrix that this tile covers.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of the whole matrix that this tile covers.
    #[must_use]
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// This tile's part of a row, by the row's number in the whole matrix.
    ///
    /// # Panics
    /// When the row is not in this tile.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(self.rows.contains(&row), "row {row} of {:?}", self.rows);
        // SAFETY: rows and columns lie inside the matrix that `for_tiles` borrowed mutably for longer than this
        // tile lives; tiles are disjoint and each is made once; `&mut self` keeps its rows from aliasing.
        unsafe {
            let start = self.base.add(row * self.stride + self.columns.start);
            std::slice::from_raw_parts_mut(start, self.columns.len())
        }
    }
}

/// A pointer that tasks may carry to their threads; what they may write is settled by `for_tiles`.
struct SharedPointer<T>(*mut T);

impl<T> SharedPointer<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: only `for_tiles` makes one, and hands each task a rectangle of its own; the elements may go to other threads.
unsafe impl<T: Send> Sync for SharedPointer<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} {tasks}");
            }
        }
    }

    #[test]
    fn many_jobs_with_pauses_between() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        for round in 0..2_000 {
            pool.run(5, &|task| {
                total.fetch_add(task, Ordering::Relaxed);
            });
            if round % 500 == 0 {
                // Long enough for the workers to fall asleep.
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        assert_eq!(total.into_inner(), 2_000 * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|task| assert!(task != 13, "unlucky"));
        }));
        assert!(outcome.is_err());
        let count = AtomicUsize::new(0);
        pool.run(10, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 10);
    }

    #[test]
    fn tiles_cover_the_matrix_once_and_leave_the_padding() {
        let pool = Pool::new(3);
        let (rows, stride, columns) = (7, 16, 13);
        let mut out = vec![0.0f32; rows * stride];
        let shape = TileShape { stride, columns, rows_max: 3, columns_max: 5 };
        pool.for_tiles(&mut out, shape, |mut tile| {
            for row in tile.rows() {
                let first = tile.columns().start;
                for (j, cell) in tile.row(row).iter_mut().enumerate() {
                    *cell += (row * 100 + first + j) as f32;
                }
            }
        });
        for (i, value) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let want = if column < columns { (row * 100 + column) as f32 } else { 0.0 };
            assert_eq!(*value, want, "{row} {column}");
        }
    }
}
