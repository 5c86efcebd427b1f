//! Which KV pages are in use. Pure: the memory itself belongs to the device, which is told what to ensure and release.

/// Numbers of free pages, up to a limit.
#[derive(Debug, Clone)]
pub struct PagePool {
    free: Vec<u32>,
    /// Pages ever handed out; numbers at and above this are fresh.
    used: u32,
    limit: u32,
}

impl PagePool {
    /// A pool of `limit` pages.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { free: Vec::new(), used: 0, limit }
    }

    /// Pages that can still be taken.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.limit - self.used + self.free.len() as u32
    }

    /// All pages there are.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes `count` pages, or none. Freed pages come first: their memory is warm.
    pub fn take(&mut self, count: u32) -> Option<Vec<u32>> {
        if count > self.available() {
            return None;
        }
        Some(
            (0..count)
                .map(|_| {
                    self.free.pop().unwrap_or_else(|| {
                        self.used += 1;
                        self.used - 1
                    })
                })
                .collect(),
        )
    }

    /// Gives pages back.
    pub fn give_back(&mut self, pages: impl IntoIterator<Item = u32>) {
        for page in pages {
            debug_assert!(page < self.used && !self.free.contains(&page), "page {page} given back twice");
            self.free.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_nothing_and_no_page_twice() {
        let mut pool = PagePool::new(4);
        let first = pool.take(3).expect("there are four");
        assert_eq!(pool.take(2), None);
        assert_eq!(pool.available(), 1);
        pool.give_back(first.iter().copied().take(2));
        let mut all = pool.take(3).expect("two given back and one fresh");
        all.push(first[2]);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
