//! One file over HTTP, resumed across broken connections and killed processes.
//!
//! ```text
//! start ─ lock, hash what is there
//!   └─> ask from the first missing byte ──206──> append ──┐
//!         ▲  └─200 (no ranges, or file changed): from zero ┤
//!         └────── broken, silent, 5xx, 429: pause, again ──┤
//!                                                          └─> whole: digest right → blob
//!                                                                     digest wrong → thrown away
//! ```
//!
//! Nothing the other side says is believed for longer than it takes to check: announced sizes are compared with the
//! wanted one before a byte is taken, ranges with what was asked, and the digest decides in the end.

use std::time::Duration;

use net::{Request, Response, Url};

use super::reporter::Reporter;
use super::{Context, Start, blocking, start};
use crate::blob::{BlobLock, Note, Partial};
use crate::digest::Digest;
use crate::disk;
use crate::error::RegistryError;
use crate::progress::Progress;

/// So many new bytes make a try count as progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A file elsewhere.
pub(super) struct Remote {
    pub(super) url: Url,
    pub(super) token: Option<String>,
    /// For messages.
    pub(super) what: String,
    pub(super) digest: Option<Digest>,
    pub(super) size_bytes: Option<u64>,
}

/// How one request ended.
enum Step {
    /// Everything is there.
    Whole,
    /// The connection broke or the file grew short; what came stays.
    Again(RegistryError),
}

/// Brings a file into the store. Returns its digest and size, and the lock under which to point at it.
pub(super) async fn download(
    context: &Context<'_>,
    remote: &Remote,
    report: &mut Reporter<'_>,
) -> Result<(Digest, u64, BlobLock), RegistryError> {
    let key = match &remote.digest {
        Some(digest) => digest.file_name(),
        None => format!("url-{}", Digest::of(remote.url.as_str().as_bytes()).hex()),
    };
    let known = remote.digest.map(|digest| (digest, remote.size_bytes.unwrap_or(0)));
    let (lock, mut partial) = match start(context, &key, known, report).await? {
        Start::Present(lock, digest) => {
            let size_bytes = size_of(context, &digest)?;
            report.bytes(Some(&digest), size_bytes, size_bytes);
            return Ok((digest, size_bytes, lock));
        }
        Start::Missing(lock, partial) => (lock, partial),
    };
    let mut resumed = partial.len() > 0;
    loop {
        fill(context, remote, &mut partial, report).await?;
        report.step(Progress::Verifying);
        let found = partial.digest();
        match remote.digest {
            Some(wanted) if wanted != found => {
                if resumed {
                    // The beginning may have come from another version of the file, or a torn write: once afresh.
                    resumed = false;
                    partial.keep(0)?;
                    continue;
                }
                partial.discard()?;
                let source_name = source_name(remote);
                return Err(RegistryError::WrongDigest { source_name, wanted, found });
            }
            _ => return finish(context, partial, lock, remote.digest.is_some(), report).await,
        }
    }
}

/// Makes the partial file a blob. A file whose digest nobody knew before has the lock of its address; the blob's own
/// is taken now.
async fn finish(
    context: &Context<'_>,
    partial: Partial,
    lock: BlobLock,
    locked: bool,
    report: &mut Reporter<'_>,
) -> Result<(Digest, u64, BlobLock), RegistryError> {
    let (digest, size_bytes) = (partial.digest(), partial.len());
    let lock = if locked {
        lock
    } else {
        super::lock(context, &digest.file_name(), Some((digest, size_bytes)), report).await?
    };
    let blobs = context.store.blobs().clone();
    blocking(move || partial.finish(&blobs)).await?;
    Ok((digest, size_bytes, lock))
}

/// Asks until the file is whole, or nothing helps.
async fn fill(
    context: &Context<'_>,
    remote: &Remote,
    partial: &mut Partial,
    report: &mut Reporter<'_>,
) -> Result<(), RegistryError> {
    let retry = &context.options.retry;
    let mut tries = 0;
    let mut best = partial.len();
    loop {
        let error = match ask(context, remote, partial, report).await {
            Ok(Step::Whole) => return Ok(()),
            Ok(Step::Again(error)) => error,
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        if partial.len() >= best.saturating_add(PROGRESS_BYTES) {
            tries = 0;
            best = partial.len();
        }
        tries += 1;
        if tries >= retry.tries {
            return Err(error);
        }
        let asked = match &error {
            RegistryError::RateLimited { after, .. } => after.map_or(Duration::ZERO, Duration::from_secs),
            _ => Duration::ZERO,
        };
        let doubled = retry.pause.saturating_mul(1 << (tries - 1).min(10));
        tracing::debug!(what = %remote.what, %error, tries, "trying again");
        tokio::time::sleep(doubled.max(asked).min(retry.pause_max)).await;
    }
}

/// One request, and what comes of it.
async fn ask(
    context: &Context<'_>,
    remote: &Remote,
    partial: &mut Partial,
    report: &mut Reporter<'_>,
) -> Result<Step, RegistryError> {
    if let Some(wanted) = remote.size_bytes {
        if partial.len() > wanted {
            partial.keep(0)?;
        } else if partial.len() == wanted {
            return Ok(Step::Whole);
        }
    }
    let note = partial.note();
    // A weak tag does not promise the same bytes, but a digest will tell. With neither, there is no going on.
    let tag = note.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
    if remote.digest.is_none() && tag.is_none() {
        partial.keep(0)?;
    }
    let offset = partial.len();
    let mut request = Request::get(remote.url.clone())
        .reach(context.options.reach)
        .plain_http(context.options.insecure)
        .header("accept-encoding", "identity")?;
    if let Some(token) = &remote.token {
        request = request.bearer(token)?;
    }
    if offset > 0 {
        request = request.from_byte(offset, tag)?;
    }
    let response = context.client.send(request).await?;
    if response.status() == 416 && offset > 0 {
        // Nothing at or behind our offset. Complete, when that is the size; otherwise another file than before.
        if remote.size_bytes.is_none() && note.total == Some(offset) {
            return Ok(Step::Whole);
        }
        partial.keep(0)?;
        return Ok(Step::Again(refusal(&response, &remote.what)));
    }
    if !matches!(response.status(), 200 | 206) {
        return Err(refusal(&response, &remote.what));
    }
    let total = begin(remote, partial, &response, offset)?;
    let wanted = remote.size_bytes.or(total);
    disk::ensure_room(context.store.blobs().root(), wanted.unwrap_or(0).saturating_sub(partial.len()))?;
    partial.set_note(&Note { etag: response.header("etag").map(str::to_owned), total })?;
    let limit = wanted.unwrap_or(context.options.bytes_max);
    take(remote, partial, response, (wanted, limit), report).await
}

/// Checks the head of an answer against what was asked, and says how long the whole file is.
fn begin(
    remote: &Remote,
    partial: &mut Partial,
    response: &Response,
    offset: u64,
) -> Result<Option<u64>, RegistryError> {
    if response.header("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(protocol(remote, response, "it is compressed, which was not asked for"));
    }
    let total = if response.status() == 206 {
        let range = response.header("content-range").and_then(content_range);
        let Some((first, total)) = range.filter(|_| offset > 0) else {
            return Err(protocol(remote, response, "it is a part that was not asked for"));
        };
        if first != offset {
            return Err(protocol(remote, response, "it begins at another byte than was asked for"));
        }
        total
    } else {
        if offset > 0 {
            partial.keep(0)?;
        }
        response.content_length()
    };
    match (remote.size_bytes, total) {
        (Some(wanted), Some(found)) if wanted != found => {
            Err(RegistryError::WrongSize { source_name: source_name(remote), wanted, found })
        }
        _ => Ok(total),
    }
}

/// Appends the body.
async fn take(
    remote: &Remote,
    partial: &mut Partial,
    mut response: Response,
    (wanted, limit): (Option<u64>, u64),
    report: &mut Reporter<'_>,
) -> Result<Step, RegistryError> {
    let digest = remote.digest;
    loop {
        report.bytes(digest.as_ref(), wanted.unwrap_or(0), partial.len());
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Ok(Step::Again(error.into())),
        };
        if partial.len() + chunk.len() as u64 > limit {
            let found = partial.len() + chunk.len() as u64;
            partial.keep(0)?;
            return Err(RegistryError::WrongSize { source_name: source_name(remote), wanted: limit, found });
        }
        partial.append(&chunk)?;
    }
    match wanted {
        Some(wanted) if partial.len() < wanted => {
            let found = partial.len();
            let short = RegistryError::WrongSize { source_name: source_name(remote), wanted, found };
            Ok(Step::Again(short))
        }
        _ => Ok(Step::Whole),
    }
}

/// What a status that is no success means.
pub(super) fn refusal(response: &Response, what: &str) -> RegistryError {
    let (host, what) = (response.host().to_owned(), what.to_owned());
    match response.status() {
        status @ (401 | 403) => RegistryError::Unauthorised { host, what, status },
        404 | 410 => RegistryError::NotAtSource { name: what, detail: format!("{host} does not have it") },
        429 => {
            let after = response.header("retry-after").and_then(|text| text.trim().parse().ok());
            RegistryError::RateLimited { host, after }
        }
        status => RegistryError::Status { host, what, status },
    }
}

fn protocol(remote: &Remote, response: &Response, detail: &str) -> RegistryError {
    let (host, what) = (response.host().to_owned(), remote.what.clone());
    RegistryError::Protocol { host, what, detail: detail.to_owned() }
}

fn source_name(remote: &Remote) -> String {
    remote.url.host_str().unwrap_or("the source").to_owned()
}

fn size_of(context: &Context<'_>, digest: &Digest) -> Result<u64, RegistryError> {
    let path = context.store.blobs().path(digest);
    let metadata = std::fs::metadata(&path).map_err(RegistryError::io("read", &path))?;
    Ok(metadata.len())
}

/// First byte and whole size of `bytes 5-9/10`; the size may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        let check = |text: &str, expected| assert_eq!(content_range(text), expected, "{text}");
        check("bytes 5-9/10", Some((5, Some(10))));
        check("bytes 0-0/*", Some((0, None)));
        check("bytes 9-5/10", None);
        check("bytes 5-10/10", None);
        check("bytes */10", None);
        check("5-9/10", None);
        check("bytes 5-9", None);
        check("bytes -1-9/10", None);
    }

    proptest! {
        /// A server may say anything in a header.
        #[test]
        fn no_header_is_too_strange(text in "(bytes )?[0-9*/ -]{0,30}|\\PC{0,30}") {
            let _ = content_range(&text);
        }
    }
}
