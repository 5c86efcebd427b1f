//! A set of token texts that finds every token at the start of a text. Sorted texts and binary search over ever
//! narrower ranges stand in for nodes and edges: one vector, built by one sort.

use super::vocab::Vocab;

/// Longest text taken in. SentencePiece makes none of over 512 bytes; the limit keeps the search at every place of a
/// text from running to its end.
const TEXT_BYTES_MAX: usize = 512;

/// Texts and their ids, in byte order.
#[derive(Debug)]
pub(crate) struct Trie {
    text: Vec<u8>,
    /// End of each text in `text`, and its id.
    entries: Vec<(u32, u32)>,
    /// The range of entries that begin with each byte.
    first: Vec<(u32, u32)>,
}

impl Trie {
    pub(crate) fn new(vocab: &Vocab, ids: impl Iterator<Item = u32>) -> Self {
        let mut sorted: Vec<(&str, u32)> = ids.filter_map(|id| Some((vocab.text(id)?, id))).collect();
        sorted.retain(|(text, _)| (1..=TEXT_BYTES_MAX).contains(&text.len()));
        sorted.sort_unstable();
        sorted.dedup_by_key(|(text, _)| *text);
        let mut trie = Self { text: Vec::new(), entries: Vec::new(), first: vec![(0, 0); 256] };
        for (index, (text, id)) in sorted.into_iter().enumerate() {
            trie.text.extend_from_slice(text.as_bytes());
            trie.entries.push((trie.text.len() as u32, id));
            let (start, end) = &mut trie.first[usize::from(text.as_bytes()[0])];
            if *end == 0 {
                *start = index as u32;
            }
            *end = index as u32 + 1;
        }
        trie
    }

    fn entry(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.entries[index - 1].0 as usize };
        &self.text[start..self.entries[index].0 as usize]
    }

    /// Calls `found` with length and id of each token that `text` begins with, shortest first.
    pub(crate) fn prefixes(&self, text: &[u8], found: &mut dyn FnMut(usize, u32)) {
        let Some(&byte) = text.first() else { return };
        let (start, end) = self.first[usize::from(byte)];
        let (mut start, mut end) = (start as usize, end as usize);
        for depth in 1..=text.len() {
            if start == end {
                return;
            }
            // All of start..end begin with text[..depth]; one that ends here is the first.
            if self.entry(start).len() == depth {
                found(depth, self.entries[start].1);
                start += 1;
            }
            let Some(&next) = text.get(depth) else { return };
            // Where all go on alike, as they do deep down, there is nothing to search.
            if start < end && self.entry(start)[depth] == next && self.entry(end - 1)[depth] == next {
                continue;
            }
            let range = start..end;
            start = range.start + partition(range.len(), |i| self.entry(range.start + i)[depth] < next);
            end = start + partition(range.end - start, |i| self.entry(start + i)[depth] <= next);
        }
    }
}

/// How many of `0..len` come first, for a predicate that is true and then false.
fn partition(len: usize, first: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if first(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_found_shortest_first() {
        let texts = ["b", "abc", "a", "ab", "abd", "가", "가나", "a"];
        let vocab = Vocab::new(texts.len(), texts.into_iter(), None).unwrap();
        let trie = Trie::new(&vocab, 0..texts.len() as u32);
        let check = |text: &str, expected: &[(usize, u32)]| {
            let mut found = Vec::new();
            trie.prefixes(text.as_bytes(), &mut |length, id| found.push((length, id)));
            assert_eq!(found, expected, "{text}");
        };
        check("abd", &[(1, 2), (2, 3), (3, 4)]);
        check("ab", &[(1, 2), (2, 3)]);
        check("가나다", &[(3, 5), (6, 6)]);
        check("나", &[]);
        check("", &[]);
    }
}
