//! Keys and values of past tokens, in pages of [`PAGE_TOKENS`] tokens that any sequence may hold.
//!
//! A page carries all layers of its tokens: `[layer][key or value][kv head][token][element]`. Memory is taken when a
//! page is first used, so a context costs what it holds and not what it might hold. Who owns which page is not known
//! here: `engine::pages` counts that.

use crate::half::{f16_to_f32, f32_to_f16};

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

    /// Stores one token's keys and values: `k` and `v` are `kv_heads × head_width`.
    ///
    /// # Panics
    /// When the page has no memory or the lengths do not fit.
    pub fn store(&mut self, page: u32, slot: usize, layer: usize, k: &[f32], v: &[f32]) {
        let PageShape { kv_heads, head_width, .. } = self.shape;
        assert!(slot < PAGE_TOKENS && layer < self.shape.layers && k.len() == v.len());
        assert_eq!(k.len(), kv_heads * head_width, "keys of one token");
        for (side, from) in [k, v].into_iter().enumerate() {
            for head in 0..kv_heads {
                let at = self.offset(layer, side, head) + slot * head_width;
                let from = &from[head * head_width..][..head_width];
                match self.pages[page as usize].as_mut().expect("a page is ensured before it is used") {
                    Page::F32(data) => data[at..][..head_width].copy_from_slice(from),
                    Page::F16(data) => {
                        for (to, from) in data[at..][..head_width].iter_mut().zip(from) {
                            *to = f32_to_f16(*from);
                        }
                    }
                }
            }
        }
    }

    /// Copies one page's contents into another: copy on write.
    ///
    /// # Panics
    /// When `from` has no memory.
    pub fn copy(&mut self, from: u32, to: u32) {
        self.ensure(to);
        let source = self.pages[from as usize].take().expect("only a page in use is copied");
        match (&source, self.pages[to as usize].as_mut()) {
            (Page::F32(from), Some(Page::F32(to))) => to.copy_from_slice(from),
            (Page::F16(from), Some(Page::F16(to))) => to.copy_from_slice(from),
            _ => unreachable!("all pages have one type"),
        }
        self.pages[from as usize] = Some(source);
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

/// One head's keys and values in one page, `[token][element]`.
pub(crate) enum PageView<'a> {
    F32 { k: &'a [f32], v: &'a [f32] },
    F16 { k: &'a [u16], v: &'a [u16] },
}

impl PageView<'_> {
    /// The first `tokens` tokens as f32.
    #[inline(always)]
    pub(crate) fn unpack(&self, tokens: usize, keys: &mut [f32], values: &mut [f32]) {
        match self {
            Self::F32 { k, v } => {
                let len = k.len() / PAGE_TOKENS * tokens;
                keys[..len].copy_from_slice(&k[..len]);
                values[..len].copy_from_slice(&v[..len]);
            }
            Self::F16 { k, v } => {
                let len = k.len() / PAGE_TOKENS * tokens;
                for (to, from) in keys[..len].iter_mut().zip(&k[..len]) {
                    *to = f16_to_f32(*from);
                }
                for (to, from) in values[..len].iter_mut().zip(&v[..len]) {
                    *to = f16_to_f32(*from);
                }
            }
        }
    }
}
