//! The files of the repository, read once. Files that git ignores are not there; a folder without git (a fixture of the
//! tests) is walked whole. Files above the size limit are listed with their size and never read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::rust::Source;

/// Files above this are refused (`words`), and not read.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// One file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) bytes: u64,
    /// `None`: too big, or not UTF-8.
    pub(crate) text: Option<String>,
    /// The masked form, of Rust files.
    pub(crate) rust: Option<Source>,
}

/// All files, by path relative to the root, with `/` on every platform.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, File>,
    /// Every folder that holds one of the files, without the root itself.
    pub(crate) folders: BTreeSet<String>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let names = if root.join(".git").exists() { git_files(root)? } else { walk(root)? };
        let mut files = BTreeMap::new();
        let mut folders = BTreeSet::new();
        for name in names {
            let path = root.join(&name);
            // A file deleted but still in the index, or a link to nowhere.
            let Ok(metadata) = path.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            let mut parent = name.as_str();
            while let Some((folder, _)) = parent.rsplit_once('/') {
                folders.insert(folder.to_owned());
                parent = folder;
            }
            let text = if metadata.len() > FILE_BYTES_MAX {
                None
            } else {
                let bytes = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
                String::from_utf8(bytes).ok()
            };
            let rust = match &text {
                Some(text) if name.ends_with(".rs") => Some(Source::new(text)),
                _ => None,
            };
            files.insert(name, File { bytes: metadata.len(), text, rust });
        }
        Ok(Self { files, folders })
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.text.as_deref()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.folders.contains(path)
    }

    /// The text files whose names end in `ending`.
    pub(crate) fn ending<'t>(&'t self, ending: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)))
    }

    /// The Rust files, masked.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_str(), file.rust.as_ref()?)))
    }
}

/// Tracked files, and new ones that git does not ignore.
fn git_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .context("cannot run git: tidy asks it which files belong to the repository")?;
    anyhow::ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let names = String::from_utf8(output.stdout).context("git names a file that is not UTF-8")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn walk(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![String::new()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).with_context(|| format!("cannot list {folder}"))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().context("a file name is not UTF-8")?;
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                if name != "target" {
                    open.push(path);
                }
            } else {
                names.push(path);
            }
        }
    }
    Ok(names)
}
