//! x

use std::path::Path;

pub(crate) fn run(_: &Path, _: Option<&str>) -> anyhow::Result<bool> {
    Ok(true)
}
