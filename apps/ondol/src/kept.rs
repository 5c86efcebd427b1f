//! Pages of keys and values kept between runs: the engine's [`PageStore`] over the registry's folder. The folder is opened
//! when the first model wants pages, and is one process's at a time: a second one does without.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine::{PageShelf, PageStore};
use registry::{PagesFolder, PagesLimits, PagesShelf};
use weights::packed::SourceVersion;

/// The folder below a store's root.
#[derive(Debug)]
pub(crate) struct KeptPages {
    root: PathBuf,
    limits: PagesLimits,
    folder: OnceLock<Option<PagesFolder>>,
}

impl KeptPages {
    pub(crate) const fn new(root: PathBuf, limits: PagesLimits) -> Self {
        Self { root, limits, folder: OnceLock::new() }
    }

    fn folder(&self) -> Option<&PagesFolder> {
        let folder = self.folder.get_or_init(|| match PagesFolder::of_store(&self.root, self.limits) {
            Ok(Some(folder)) => Some(folder),
            Ok(None) => {
                tracing::info!("another process keeps its pages beside the store; this one keeps none");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "pages are not kept");
                None
            }
        });
        folder.as_ref()
    }
}

impl PageStore for KeptPages {
    fn shelf(
        &self,
        path: &Path,
        version: &SourceVersion,
        form: &str,
        page_bytes: usize,
    ) -> Option<Box<dyn PageShelf>> {
        let shelf = self.folder()?.shelf(path, version, form, page_bytes)?;
        Some(Box::new(Shelf(shelf)))
    }
}

struct Shelf(PagesShelf);

impl PageShelf for Shelf {
    fn keys(&self) -> Vec<u128> {
        self.0.keys()
    }

    fn read(&mut self, key: u128, seal: u128) -> Option<Vec<u8>> {
        self.0.read(key, seal)
    }

    fn keep(&mut self, key: u128, seal: u128, page: &[u8]) -> Vec<u128> {
        self.0.keep(key, seal, page).unwrap_or_else(|error| {
            tracing::info!(%error, "a page is not kept");
            vec![key]
        })
    }
}
