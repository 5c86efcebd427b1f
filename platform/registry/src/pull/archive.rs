//! One member out of a wheel (zip) or an npm package (tar.gz), streamed. Never more is read or written than the
//! member should have; names in the archive are compared, never used as paths.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::RegistryError;

/// Members of an archive looked at before it is given up.
const MEMBERS_MAX: usize = 10_000;
/// What may stand before the member in a tar file, which has to be read through.
const BEFORE_BYTES_MAX: u64 = 256 << 20;
const PIECE_BYTES: usize = 1 << 18;

#[derive(Debug, Clone, Copy)]
pub(super) enum Archive {
    Zip,
    TarGz,
}

#[derive(Debug)]
pub(super) enum UnpackError {
    /// The archive is not what it should be.
    Archive(String),
    /// The bytes could not be kept.
    Store(RegistryError),
}

/// Gives a member's bytes to `take`, piece by piece, and returns their digest. The member must have exactly `size_bytes`.
pub(super) fn unpack(
    form: Archive,
    path: &Path,
    member: &str,
    size_bytes: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), RegistryError>,
) -> Result<Digest, UnpackError> {
    let file = File::open(path).map_err(RegistryError::io("open", path)).map_err(UnpackError::Store)?;
    let file = BufReader::with_capacity(PIECE_BYTES, file);
    match form {
        Archive::Zip => {
            let mut zip = zip::ZipArchive::new(file).map_err(|error| broken(&error))?;
            let entry = zip.by_name(member).map_err(|error| broken(&error))?;
            check(member, entry.is_file(), entry.size(), size_bytes)?;
            copy(entry, member, size_bytes, take)
        }
        Archive::TarGz => {
            let limit = BEFORE_BYTES_MAX.saturating_add(size_bytes);
            let mut tar = tar::Archive::new(GzDecoder::new(file).take(limit));
            for entry in tar.entries().map_err(|error| broken(&error))?.take(MEMBERS_MAX) {
                let entry = entry.map_err(|error| broken(&error))?;
                if *entry.path_bytes() != *member.as_bytes() {
                    continue;
                }
                check(member, entry.header().entry_type().is_file(), entry.size(), size_bytes)?;
                return copy(entry, member, size_bytes, take);
            }
            Err(UnpackError::Archive(format!("it has no {member}")))
        }
    }
}

fn check(member: &str, is_file: bool, found: u64, wanted: u64) -> Result<(), UnpackError> {
    if !is_file {
        return Err(UnpackError::Archive(format!("{member} is not a plain file")));
    }
    if found != wanted {
        return Err(UnpackError::Archive(format!("{member} has {found} bytes instead of {wanted}")));
    }
    Ok(())
}

fn copy(
    mut reader: impl Read,
    member: &str,
    size_bytes: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), RegistryError>,
) -> Result<Digest, UnpackError> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut total = 0;
    loop {
        let read = match reader.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(&error)),
        };
        total += read as u64;
        // What a header says about a size is a claim; what comes out counts.
        if total > size_bytes || (read == 0 && total < size_bytes) {
            let detail =
                format!("{member} unpacks to another size than the {size_bytes} bytes it should have");
            return Err(UnpackError::Archive(detail));
        }
        if read == 0 {
            return Ok(Digest::finish(hasher));
        }
        hasher.update(&piece[..read]);
        take(&piece[..read]).map_err(UnpackError::Store)?;
    }
}

fn broken(error: &dyn std::error::Error) -> UnpackError {
    UnpackError::Archive(format!("it cannot be unpacked: {error}"))
}
