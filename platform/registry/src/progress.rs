//! What a pull reports while it runs, and the words Ollama's clients know for it.

/// One step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Finding out what the name stands for.
    PullingManifest,
    /// Bytes of one layer are arriving. `digest` is `sha256:<hex>`, or empty while nobody knows it yet; `total` is 0
    /// when the other side does not say.
    Pulling {
        digest: String,
        total: u64,
        completed: u64,
    },
    /// A source failed and the next one is tried.
    NextSource {
        failed: String,
        reason: String,
    },
    /// Comparing the bytes with their digest.
    Verifying,
    WritingManifest,
    RemovingUnused,
    Success,
}

impl Progress {
    /// The status text on the wire. Clients match on these words.
    #[must_use]
    pub fn status(&self) -> String {
        match self {
            Self::PullingManifest => "pulling manifest".to_owned(),
            Self::Pulling { digest, .. } => {
                let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
                format!("pulling {}", hex.get(..12).unwrap_or(hex)).trim_end().to_owned()
            }
            Self::NextSource { failed, reason } => {
                format!("{failed} failed ({reason}), trying the next source")
            }
            Self::Verifying => "verifying sha256 digest".to_owned(),
            Self::WritingManifest => "writing manifest".to_owned(),
            Self::RemovingUnused => "removing any unused layers".to_owned(),
            Self::Success => "success".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_ollamas() {
        let digest = "sha256:8eeb52dfb3bb9aefdf9d1ef24b3bdbcfbe82238798c4b918278320b6fcef18fe".to_owned();
        let check = |progress: Progress, expected: &str| assert_eq!(progress.status(), expected);
        check(Progress::PullingManifest, "pulling manifest");
        check(Progress::Pulling { digest, total: 1, completed: 0 }, "pulling 8eeb52dfb3bb");
        check(Progress::Pulling { digest: String::new(), total: 0, completed: 0 }, "pulling");
        check(Progress::Verifying, "verifying sha256 digest");
        check(Progress::WritingManifest, "writing manifest");
        check(Progress::RemovingUnused, "removing any unused layers");
        check(Progress::Success, "success");
    }
}
