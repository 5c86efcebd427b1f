//! Links between documents lead somewhere: to a file or folder of the repository, and to a heading in it.
//! Links to the outside are not followed: tidy needs no network.

use super::Finding;
use super::documents::{heading, prose};
use super::tree::Tree;

const RULE: &str = "links";

pub(crate) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.ending(".md") {
        for (line, content) in prose(text) {
            for target in targets(content) {
                if let Some(problem) = problem(tree, path, target) {
                    findings.push(Finding::new(RULE, path, line, problem));
                }
            }
        }
    }
}

/// What is linked to in a line: `[text](target)` and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let mut targets: Vec<&str> = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|t| t.split(' ').next().unwrap_or(t))
        .collect();
    if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        targets.push(target.trim());
    }
    targets
}

fn problem(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_owned() } else { join(from, file)? };
    if !tree.has(&path) {
        return Some(format!("links to {target}, which does not exist: correct it"));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = tree.text(&path)?;
    let known = anchors(text);
    (!known.iter().any(|known| known == anchor))
        .then(|| format!("links to {target}: {path} has no such heading"))
}

/// The path that `link` means in the document `from`; `None` when it leaves the repository (developers' notes may point
/// to the folder beside it).
fn join(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that forges make of the headings of a document.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let Some((_, title)) = heading(line) else { continue };
        let kept = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        let slug = kept.replace(' ', "-");
        let twins = anchors.iter().filter(|known| **known == slug).count();
        anchors.push(if twins == 0 { slug } else { format!("{slug}-{twins}") });
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_targets() {
        let check = |line: &str, expected: &[&str]| assert_eq!(targets(line), expected, "in {line}");
        check("see [a](b.md) and [c](d/e.md#f \"title\")", &["b.md", "d/e.md#f"]);
        check("[a]: ../b.md", &["../b.md"]);
        check("an [array] (not a link)", &[]);
    }

    #[test]
    fn joins_paths() {
        let check = |from: &str, link: &str, expected: Option<&str>| {
            assert_eq!(join(from, link).as_deref(), expected, "{link} in {from}");
        };
        check("README.md", "docs/a.md", Some("docs/a.md"));
        check("docs/a.md", "../README.md", Some("README.md"));
        check("docs/a.md", "./b/", Some("docs/b"));
        check("README.md", "../shared/design.md", None);
    }

    #[test]
    fn makes_anchors() {
        let text = "# The *one* rule\n```\n# not a heading\n```\n## 빠른 시작: WSL\n## Same\n## Same\n";
        assert_eq!(anchors(text), ["the-one-rule", "빠른-시작-wsl", "same", "same-1"]);
    }
}
