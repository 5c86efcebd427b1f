//! Keys and values of past tokens, in pages of [`PAGE_TOKENS`] tokens that any sequence may hold.
//!
//! A page carries all layers of its tokens: for each layer and head the keys `[element][token]`, so that scores have one
//! token a lane, and the values `[token][element]`. Memory is taken when a page is first used, so a context costs what it holds and not what it might hold. Who owns which page is not known
//! here: `engine::pages` counts that.

use crate::arch::rows::Rows;
use crate::arch::{self, Level};

/// Tokens in a page.
pub const PAGE_TOKENS: usize = 32;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KvType {
    F32,
    #[default]
    F16,
}

impl KvType {
    /// Bytes of one element.
    #[must_use]
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
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
        self.layers * 2 * self.kv_heads * PAGE_TOKENS * self.head_width * self.kv_type.element_bytes()
    }

    const fn elements(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.run()
    }

    /// Elements of one head's keys in one page.
    const fn run(&self) -> usize {
        PAGE_TOKENS * self.head_width
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
    F32(Box<[f32]>),
    F16(Box<[u16]>),
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
        let elements = self.shape.elements();
        self.pages[index].get_or_insert_with(|| match self.shape.kv_type {
            KvType::F32 => Page::F32(vec![0.0; elements].into_boxed_slice()),
            KvType::F16 => Page::F16(vec![0; elements].into_boxed_slice()),
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
            _ => unreachable!("a page is ensured before it is used"),
        }
    }

    /// Stores one token's keys and values: `k` and `v` are `kv_heads × head_width`. `halves` is scratch.
    ///
    /// # Panics
    /// When the page has no memory or the lengths do not fit.
    pub(crate) fn store(&mut self, level: Level, at: Slot, k: &[f32], v: &[f32], halves: &mut Vec<u16>) {
        let PageShape { kv_heads, head_width, .. } = self.shape;
        let Slot { page, token, layer } = at;
        assert!(token < PAGE_TOKENS && layer < self.shape.layers);
        assert!(k.len() == kv_heads * head_width && v.len() == k.len(), "keys and values of one token");
        let (keys, values) = (self.offset(layer, 0, 0), self.offset(layer, 1, 0));
        let run = self.shape.run();
        let Some(page) = self.pages[page as usize].as_mut() else {
            unreachable!("a page is ensured before it is used")
        };
        match page {
            Page::F32(data) => place(data, [keys, values], run, head_width, token, k, v),
            Page::F16(data) => {
                halves.resize(2 * k.len(), 0);
                let (half_k, half_v) = halves.split_at_mut(k.len());
                arch::to_f16(level, k, half_k);
                arch::to_f16(level, v, half_v);
                place(data, [keys, values], run, head_width, token, half_k, half_v);
            }
        }
    }

    /// One head's keys and values in a page.
    ///
    /// # Panics
    /// When the page has no memory.
    pub(crate) fn view(&self, page: u32, layer: usize, kv_head: usize) -> PageView<'_> {
        let (k, v, run) = (self.offset(layer, 0, kv_head), self.offset(layer, 1, kv_head), self.shape.run());
        match self.pages[page as usize].as_ref().expect("a page is ensured before it is used") {
            Page::F32(data) => PageView::F32 { k: &data[k..][..run], v: &data[v..][..run] },
            Page::F16(data) => PageView::F16 { k: &data[k..][..run], v: &data[v..][..run] },
        }
    }

    fn offset(&self, layer: usize, side: usize, head: usize) -> usize {
        ((layer * 2 + side) * self.shape.kv_heads + head) * self.shape.run()
    }
}

/// Where a token's keys and values go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub page: u32,
    /// Place in the page.
    pub token: usize,
    pub layer: usize,
}

/// Keys across, values along.
fn place<T: Copy>(
    data: &mut [T],
    [keys, values]: [usize; 2],
    run: usize,
    width: usize,
    token: usize,
    k: &[T],
    v: &[T],
) {
    for (head, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
        let columns = data[keys + head * run..][..run].chunks_exact_mut(PAGE_TOKENS);
        for (column, k) in columns.zip(k) {
            column[token] = *k;
        }
        data[values + head * run + token * width..][..width].copy_from_slice(v);
    }
}

/// One head's keys `[element][token]` and values `[token][element]` in one page.
pub(crate) enum PageView<'a> {
    F32 { k: &'a [f32], v: &'a [f32] },
    F16 { k: &'a [u16], v: &'a [u16] },
}

impl PageView<'_> {
    /// All keys, and the values of the first `tokens` tokens, as f32.
    #[inline(always)]
    pub(crate) fn unpack<R: Rows>(&self, tokens: usize, keys: &mut [f32], values: &mut [f32]) {
        match self {
            Self::F32 { k, v } => {
                let len = v.len() / PAGE_TOKENS * tokens;
                keys.copy_from_slice(k);
                values[..len].copy_from_slice(&v[..len]);
            }
            Self::F16 { k, v } => {
                let len = v.len() / PAGE_TOKENS * tokens;
                halves_to_f32::<R>(k, keys);
                halves_to_f32::<R>(&v[..len], &mut values[..len]);
            }
        }
    }
}

#[inline(always)]
fn halves_to_f32<R: Rows>(from: &[u16], to: &mut [f32]) {
    let (from, _) = from.as_chunks::<16>();
    let (to, _) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        R::widen(from).store(to);
    }
}
