//! How much memory something takes at its peak: an allocator that counts, for tests of hostile input.
//!
//! ```
//! use seeded::memory::Counting;
//!
//! #[global_allocator]
//! static MEMORY: Counting = Counting::new();
//!
//! let (bytes, peak) = MEMORY.peak_of(|| vec![0u8; 1000].len());
//! assert_eq!(bytes, 1000);
//! assert!(peak >= 1000);
//! ```
//!
//! It counts what is asked for, touched or not: the claim of a hostile file shows even where the system would never
//! have to hand out the pages. Counts belong to the process, so a test binary that uses it has one test.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The system's allocator, counting.
#[derive(Debug, Default)]
pub struct Counting {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Counting {
    /// For a `#[global_allocator]`.
    #[must_use]
    pub const fn new() -> Self {
        Self { now: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// The result of `work`, and the most bytes that lived meanwhile above those that lived before.
    pub fn peak_of<T>(&self, work: impl FnOnce() -> T) -> (T, usize) {
        let before = self.now.load(Ordering::SeqCst);
        self.peak.store(before, Ordering::SeqCst);
        let result = work();
        (result, self.peak.load(Ordering::SeqCst).saturating_sub(before))
    }

    fn count(&self, size: usize) {
        let now = self.now.fetch_add(size, Ordering::SeqCst) + size;
        self.peak.fetch_max(now, Ordering::SeqCst);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one adds only counting")]
// SAFETY: every call goes to the system's allocator with the same arguments, and its answer is returned unchanged;
// the counters are atomic and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size());
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.now.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the block came from `alloc` above, that is from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}
