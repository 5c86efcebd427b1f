//! Work whose only purpose is to be timed: what this machine can do at most, beside which the speed of the kernels is
//! told. The caller holds the watch.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pool::Pool;

/// Words that a task reads: 1 MiB.
const WORDS_A_TASK: usize = 1 << 17;
/// Sums side by side, so that the additions do not wait for each other.
const SUMS: usize = 32;

/// Reads every word once, on all threads of the pool, and returns their sum, which forbids the compiler to leave any
/// out. Over a buffer larger than the caches this is the read bandwidth of the memory.
///
/// Bytes: 8 · `words`.
#[must_use]
pub fn read_sum(pool: &Pool, words: &[u64]) -> u64 {
    let total = AtomicU64::new(0);
    pool.run(words.len().div_ceil(WORDS_A_TASK), &|task| {
        let end = ((task + 1) * WORDS_A_TASK).min(words.len());
        total.fetch_add(sum(&words[task * WORDS_A_TASK..end]), Ordering::Relaxed);
    });
    total.into_inner()
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; SUMS];
    let (lines, rest) = words.as_chunks::<SUMS>();
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Takes two cycles a step, because each step waits for the one before: `x = rotate(x, 1) xor key`, a rotation and an
/// exclusive or of one cycle each. Timed, it tells the clock of a core.
#[must_use]
pub fn two_cycles_a_step(steps: u64, key: u64) -> u64 {
    (0..steps).fold(key, |x, _| x.rotate_left(1) ^ key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads);
            for len in [0, 1, 31, 32, 33, WORDS_A_TASK - 1, WORDS_A_TASK, 3 * WORDS_A_TASK + 5] {
                let words: Vec<u64> = (1..=len as u64).collect();
                assert_eq!(read_sum(&pool, &words), len as u64 * (len as u64 + 1) / 2, "{threads} {len}");
            }
        }
    }

    #[test]
    fn steps_depend_on_each_other() {
        assert_eq!(two_cycles_a_step(0, 5), 5);
        assert_eq!(two_cycles_a_step(1, 5), 15);
        assert_eq!(two_cycles_a_step(2, 5), 27);
    }
}
