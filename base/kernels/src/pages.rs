//! Keys and values of past tokens, in pages of [`PAGE_TOKENS`] tokens that any sequence may hold.
//!
//! A page carries all layers of its tokens: `[layer][keys, values][head]`, and of each head what [`view`] describes.
//! Memory is taken when a page is first used, so a context costs what it holds and not what it might hold. Who owns which
//! page is not known here: `engine::pages` counts that.

mod store;
mod view;

use std::ops::{Deref, DerefMut};
use std::str::FromStr;

pub(crate) use store::{Scratch, Strided};
pub(crate) use view::PageView;

use crate::arch::Level;
use crate::compute::ComputeError;

/// Tokens in a page.
pub const PAGE_TOKENS: usize = 32;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KvType {
    F32,
    #[default]
    F16,
    /// 32 elements of a token as int8 with a scale in f16, as the weights of this name: 8½ bits an element.
    Q8_0,
    /// 32 elements of a token in four bits with a scale in f16: 4½ bits an element.
    Q4_0,
}

impl KvType {
    /// Every type, the exact ones first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8_0, Self::Q4_0];

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Head widths that can be stored are multiples of this.
    #[must_use]
    pub const fn width_step(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 16,
            Self::Q8_0 | Self::Q4_0 => 32,
        }
    }

    /// Bytes of one head's keys in one page, or of its values.
    const fn run_bytes(self, head_width: usize) -> usize {
        let elements = PAGE_TOKENS * head_width;
        match self {
            Self::F32 => 4 * elements,
            Self::F16 => 2 * elements,
            Self::Q8_0 => elements + elements / 16,
            Self::Q4_0 => elements / 2 + elements / 16,
        }
    }

    /// What a run is counted in: the elements of the memory that holds it.
    const fn run_len(self, head_width: usize) -> usize {
        match self {
            Self::F32 | Self::F16 => PAGE_TOKENS * head_width,
            Self::Q8_0 | Self::Q4_0 => self.run_bytes(head_width),
        }
    }
}

/// A name that is no type of keys and values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no type of keys and values: choose f16, q8_0, q4_0 or f32")]
pub struct UnknownKvType(String);

impl FromStr for KvType {
    type Err = UnknownKvType;

    fn from_str(name: &str) -> Result<Self, UnknownKvType> {
        let found = Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownKvType(name.to_owned()))
    }
}

/// What one token of one model leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageShape {
    pub layers: usize,
    pub kv_heads: usize,
    /// Elements of a key, and of a value; a multiple of 16.
    pub head_width: usize,
    pub kv_type: KvType,
}

impl PageShape {
    /// Bytes of one page.
    #[must_use]
    pub const fn page_bytes(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.kv_type.run_bytes(self.head_width)
    }

    /// Whether the CPU can hold and attend over such heads.
    ///
    /// # Errors
    /// [`ComputeError::HeadWidth`] and [`ComputeError::KvTypeWidth`] when not.
    pub(crate) const fn check(&self) -> Result<(), ComputeError> {
        let Self { head_width, kv_type, .. } = *self;
        if head_width == 0 || !head_width.is_multiple_of(16) || head_width > 1024 {
            return Err(ComputeError::HeadWidth(head_width));
        }
        if !head_width.is_multiple_of(kv_type.width_step()) {
            return Err(ComputeError::KvTypeWidth {
                head_width,
                kv_type: kv_type.name(),
                step: kv_type.width_step(),
            });
        }
        Ok(())
    }

    /// Where one head's keys (`side` 0) or values (1) begin.
    const fn offset(&self, layer: usize, side: usize, head: usize) -> usize {
        ((layer * 2 + side) * self.kv_heads + head) * self.kv_type.run_len(self.head_width)
    }
}

/// The pages of one model on the CPU.
#[derive(Debug)]
pub struct Pages {
    shape: PageShape,
    pages: Vec<Option<Page>>,
}

#[derive(Debug)]
enum Page {
    F32(Aligned<f32>),
    F16(Aligned<u16>),
    /// Q8_0 and Q4_0: scales and quants as bytes.
    Quants(Aligned<u8>),
}

/// Zeros that begin on a cache line, so that no vector lies on two.
#[derive(Debug)]
struct Aligned<T> {
    memory: Box<[T]>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    const LINE: usize = 64;

    fn new(len: usize) -> Self {
        let room = Self::LINE / size_of::<T>();
        let memory = vec![T::default(); len + room].into_boxed_slice();
        let start = memory.as_ptr().align_offset(Self::LINE).min(room);
        Self { memory, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl Pages {
    /// No pages yet.
    #[must_use]
    pub const fn new(shape: PageShape) -> Self {
        Self { shape, pages: Vec::new() }
    }

    /// The shape they were made with.
    #[must_use]
    pub const fn shape(&self) -> PageShape {
        self.shape
    }

    /// Bytes in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.iter().flatten().count() * self.shape.page_bytes()
    }

    /// Gives a page its memory.
    pub fn ensure(&mut self, page: u32) {
        let index = page as usize;
        if self.pages.len() <= index {
            self.pages.resize_with(index + 1, || None);
        }
        let len = self.shape.offset(self.shape.layers, 0, 0);
        self.pages[index].get_or_insert_with(|| match self.shape.kv_type {
            KvType::F32 => Page::F32(Aligned::new(len)),
            KvType::F16 => Page::F16(Aligned::new(len)),
            KvType::Q8_0 | KvType::Q4_0 => Page::Quants(Aligned::new(len)),
        });
    }

    /// Takes a page's memory back.
    pub fn release(&mut self, page: u32) {
        if let Some(slot) = self.pages.get_mut(page as usize) {
            *slot = None;
        }
    }

    /// Makes page `to` the same as page `from`.
    ///
    /// # Panics
    /// When one of them has no memory, or both are the same.
    pub fn copy(&mut self, from: u32, to: u32) {
        let [from, to] =
            self.pages.get_disjoint_mut([from as usize, to as usize]).expect("two pages that were ensured");
        match (from, to) {
            (Some(Page::F32(from)), Some(Page::F32(to))) => to.copy_from_slice(from),
            (Some(Page::F16(from)), Some(Page::F16(to))) => to.copy_from_slice(from),
            (Some(Page::Quants(from)), Some(Page::Quants(to))) => to.copy_from_slice(from),
            _ => unreachable!("a page is ensured before it is used"),
        }
    }

    /// What a page holds, as bytes that [`Pages::fill`] takes: its elements, the least significant byte first.
    ///
    /// # Panics
    /// When it has no memory.
    #[must_use]
    pub fn bytes_of(&self, page: u32) -> Vec<u8> {
        match self.pages[page as usize].as_ref().expect("a page is ensured before it is used") {
            Page::F32(data) => data.iter().flat_map(|element| element.to_le_bytes()).collect(),
            Page::F16(data) => data.iter().flat_map(|element| element.to_le_bytes()).collect(),
            Page::Quants(data) => data.to_vec(),
        }
    }

    /// Makes a page hold these bytes. `false`: they are not as many as it has, and it holds what it held.
    ///
    /// # Panics
    /// When it has no memory.
    #[must_use]
    pub fn fill(&mut self, page: u32, bytes: &[u8]) -> bool {
        if bytes.len() != self.shape.page_bytes() {
            return false;
        }
        match self.pages[page as usize].as_mut().expect("a page is ensured before it is used") {
            Page::F32(data) => {
                for (element, bytes) in data.iter_mut().zip(bytes.as_chunks().0) {
                    *element = f32::from_le_bytes(*bytes);
                }
            }
            Page::F16(data) => {
                for (element, bytes) in data.iter_mut().zip(bytes.as_chunks().0) {
                    *element = u16::from_le_bytes(*bytes);
                }
            }
            Page::Quants(data) => data.copy_from_slice(bytes),
        }
        true
    }

    /// Stores the keys and values of neighbouring tokens of one page, one a row.
    ///
    /// # Panics
    /// When the page has no memory or the lengths do not fit.
    pub(crate) fn store(
        &mut self,
        level: Level,
        at: Slot,
        count: usize,
        [k, v]: [Strided<'_>; 2],
        scratch: &mut Scratch,
    ) {
        let PageShape { layers, kv_heads, head_width, .. } = self.shape;
        let Slot { page, token, layer } = at;
        assert!(token + count <= PAGE_TOKENS && layer < layers);
        assert!(k.width == kv_heads * head_width && v.width == k.width, "keys and values of a token");
        let Some(page) = self.pages[page as usize].as_mut() else {
            unreachable!("a page is ensured before it is used")
        };
        store::store(level, &self.shape, page, &store::Place { layer, token, count }, [k, v], scratch);
    }

    /// One head's keys and values in a page.
    ///
    /// # Panics
    /// When the page has no memory.
    #[inline(always)]
    pub(crate) fn view(&self, page: u32, layer: usize, kv_head: usize) -> PageView<'_> {
        let [k, v] = [0, 1].map(|side| self.shape.offset(layer, side, kv_head));
        let run = self.shape.kv_type.run_len(self.shape.head_width);
        match self.pages[page as usize].as_ref().expect("a page is ensured before it is used") {
            Page::F32(data) => PageView::F32 { k: &data[k..][..run], v: &data[v..][..run] },
            Page::F16(data) => PageView::F16 { k: &data[k..][..run], v: &data[v..][..run] },
            Page::Quants(data) if self.shape.kv_type == KvType::Q4_0 => {
                PageView::Q4 { k: &data[k..][..run], v: &data[v..][..run] }
            }
            Page::Quants(data) => PageView::Q8 { k: &data[k..][..run], v: &data[v..][..run] },
        }
    }
}

/// Where tokens' keys and values go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub page: u32,
    /// Place of the first in the page.
    pub token: usize,
    pub layer: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_out_as_bytes_and_comes_back_the_same() {
        for kv_type in KvType::ALL {
            let shape = PageShape { layers: 2, kv_heads: 3, head_width: 32, kv_type };
            let mut pages = Pages::new(shape);
            pages.ensure(0);
            pages.ensure(1);
            let bytes: Vec<u8> = (0..shape.page_bytes()).map(|at| (at * 7 % 251) as u8).collect();
            assert!(pages.fill(0, &bytes) && pages.bytes_of(0) == bytes, "{kv_type:?}");
            assert!(!pages.fill(1, &bytes[1..]) && pages.bytes_of(1).iter().all(|byte| *byte == 0));
            pages.copy(0, 1);
            assert_eq!(pages.bytes_of(1), bytes);
        }
    }
}
