//! Every source file opens with a few lines for its reader: what it is, where it stands, what it leaves to others.

use super::Finding;
use super::tree::Tree;

const RULE: &str = "headers";

/// Above this many lines a Rust file says at least two lines about itself; a short one may do with a good one.
const SHORT_FILE_LINES: usize = 150;

pub(crate) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.ending(".rs") {
        let header = text.lines().take_while(|line| line.starts_with("//!"));
        let prose = header.filter(|line| !line.trim_start_matches("//!").trim().is_empty()).count();
        let wanted = if text.lines().count() > SHORT_FILE_LINES { 2 } else { 1 };
        if prose < wanted {
            let message = format!(
                "opens with {prose} lines of //! header, wants {wanted}: what it is, where it stands"
            );
            findings.push(Finding::new(RULE, path, 1, message));
        }
    }
    for (path, file) in &tree.files {
        let Some(text) = &file.text else { continue };
        let shebang = text.lines().next().filter(|line| line.starts_with("#!"));
        let is_script =
            path.ends_with(".py") || path.ends_with(".sh") || shebang.is_some_and(|line| line.contains('/'));
        if !is_script || path.ends_with(".rs") {
            continue;
        }
        let first = text.lines().skip(usize::from(shebang.is_some())).find(|line| !line.trim().is_empty());
        let opens_well = first.is_none_or(|line| {
            line.trim_start_matches(['#', '"', '\'']).trim().len() > 10 && line.starts_with(['#', '"', '\''])
        });
        // An empty `__init__.py` has nothing to say.
        if !opens_well {
            findings.push(Finding::new(
                RULE,
                path,
                1,
                "opens without a comment that says what it is: write one",
            ));
        }
    }
}
