//! The manifests: which crates there are, where they live and what they ask for; versions stand once, in the root,
//! sorted; features only where a platform or a device needs them.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::Finding;
use super::tree::Tree;

const RULE: &str = "manifests";
const ROOT: &str = "Cargo.toml";

/// Crates that may have Cargo features.
const WITH_FEATURES: [&str; 2] = ["gpu", "ondol"];

/// The folders of crates, outermost first in the picture of the house.
const FLOORS: [&str; 8] = ["apps", "platform", "knowledge", "inference", "base", "benches", "tests", "xtask"];

/// Those of them that stand beside the house.
const BESIDE: [&str; 3] = ["benches", "tests", "xtask"];

/// How a crate asks for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// One entry of a dependency table.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// In the manifest, from 1.
    pub(crate) line: usize,
}

/// One member of the workspace.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Relative to the root.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
}

impl Crate {
    /// Whether it is a part of the product, not a tool or a help for tests beside it.
    pub(crate) fn is_house(&self) -> bool {
        !BESIDE.contains(&self.folder.split('/').next().unwrap_or_default())
    }

    pub(crate) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }
}

/// The members of the workspace, by name.
pub(crate) type Crates = BTreeMap<String, Crate>;

/// Reads the members that the root names.
pub(crate) fn read(tree: &Tree, findings: &mut Vec<Finding>) -> Crates {
    let mut crates = Crates::new();
    let Some(root) = parse(tree, ROOT, findings) else { return crates };
    for folder in strings(table(&root, &["workspace"]).get("members")) {
        let path = format!("{folder}/Cargo.toml");
        let Some(manifest) = parse(tree, &path, findings) else { continue };
        let name =
            table(&manifest, &["package"]).get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let text = tree.text(&path).unwrap_or_default();
        let dependencies = dependencies(&manifest, text);
        crates.insert(name.clone(), Crate { name, folder, dependencies });
    }
    crates
}

/// The rules of the manifests.
pub(crate) fn check(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    check_root(tree, crates, findings);
    for member in crates.values() {
        check_member(tree, member, findings);
    }
    for path in tree.files.keys().filter(|path| path.ends_with("/Cargo.toml")) {
        let is_member = crates.values().any(|member| member.manifest() == *path);
        // Fuzz targets are a workspace of their own: they need another toolchain.
        if !is_member && !path.starts_with("fuzz/") {
            let message =
                "is no member of the workspace: name its folder under [workspace] members in Cargo.toml";
            findings.push(Finding::new(RULE, path, 0, message));
        }
    }
}

fn check_root(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    let (Some(text), Some(root)) = (tree.text(ROOT), parse(tree, ROOT, &mut Vec::new())) else { return };
    let members = strings(table(&root, &["workspace"]).get("members"));
    if !members.is_sorted() {
        findings.push(Finding::new(RULE, ROOT, line_of(text, "members"), "[workspace] members: sort them"));
    }
    let shared = table(&root, &["workspace", "dependencies"]);
    let lines: BTreeMap<&str, usize> =
        shared.keys().map(|name| (name.as_str(), entry_line(text, name))).collect();
    let is_ours = |name: &str| table(shared, &[name]).contains_key("path");
    for ours in [true, false] {
        let mut names: Vec<&str> =
            shared.keys().map(String::as_str).filter(|name| is_ours(name) == ours).collect();
        names.sort_by_key(|name| lines.get(name));
        for pair in names.windows(2).filter(|pair| pair[0] > pair[1]) {
            let message = format!("{} stands after {}: sort the list", pair[1], pair[0]);
            findings.push(Finding::new(RULE, ROOT, lines[pair[1]], message));
        }
    }
    let used: BTreeSet<&str> = crates
        .values()
        .flat_map(|member| &member.dependencies)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for (name, line) in lines.iter().filter(|(name, _)| !used.contains(*name)) {
        findings.push(Finding::new(RULE, ROOT, *line, format!("no crate uses {name}: remove it")));
    }
}

fn check_member(tree: &Tree, member: &Crate, findings: &mut Vec<Finding>) {
    let path = member.manifest();
    let Some(manifest) = parse(tree, &path, &mut Vec::new()) else { return };
    let text = tree.text(&path).unwrap_or_default();
    let mut say = |line: usize, message: String| findings.push(Finding::new(RULE, &path, line, message));

    let floor = member.folder.split('/').next().unwrap_or_default();
    if !FLOORS.contains(&floor) {
        say(0, format!("lies on no floor: move it below one of {}", FLOORS.join(", ")));
    }
    if member.folder.rsplit('/').next() != Some(member.name.as_str()) {
        say(
            line_of(text, "name"),
            format!("is called {}, its folder is not: one thing, one name", member.name),
        );
    }
    if table(&manifest, &["lints"]).get("workspace") != Some(&Value::Boolean(true)) {
        say(0, "has lints of its own: write [lints] workspace = true".to_owned());
    }
    if manifest.contains_key("features") && !WITH_FEATURES.contains(&member.name.as_str()) {
        say(
            line_of(text, "[features]"),
            "has Cargo features: behaviour is a setting; only gpu and ondol may have them".to_owned(),
        );
    }
    for (section, entries) in sections(&manifest) {
        for (name, entry) in entries {
            let from_root = entry.get("workspace") == Some(&Value::Boolean(true));
            let has_version = ["version", "path", "git"].iter().any(|key| entry.get(key).is_some());
            if !from_root || has_version {
                say(
                    entry_line(text, name),
                    format!(
                        "[{section}] {name}: write {name}.workspace = true; versions stand once, in the root"
                    ),
                );
            }
        }
        let lines: Vec<usize> = entries.keys().map(|name| entry_line(text, name)).collect();
        let mut order: Vec<(&String, usize)> = entries.keys().zip(lines).collect();
        order.sort_by_key(|(_, line)| *line);
        for pair in order.windows(2).filter(|pair| pair[0].0 > pair[1].0) {
            say(pair[1].1, format!("[{section}] {} stands after {}: sort the list", pair[1].0, pair[0].0));
        }
    }
}

fn parse(tree: &Tree, path: &str, findings: &mut Vec<Finding>) -> Option<Table> {
    let Some(text) = tree.text(path) else {
        findings.push(Finding::new(RULE, path, 0, "is missing: the workspace names its folder"));
        return None;
    };
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            findings.push(Finding::new(RULE, path, 0, format!("is not TOML: {}", error.message())));
            None
        }
    }
}

/// The dependency tables of a manifest, those of single targets included, with the names of their sections.
fn sections(manifest: &Table) -> Vec<(String, &Table)> {
    const NAMES: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
    let mut sections = Vec::new();
    let of = |table: &'_ Table, name: &str| table.get(name).and_then(Value::as_table).is_some();
    for name in NAMES.iter().filter(|name| of(manifest, name)) {
        sections.push(((*name).to_owned(), table(manifest, &[name])));
    }
    for (target, inside) in table(manifest, &["target"]) {
        let Some(inside) = inside.as_table() else { continue };
        for name in NAMES.iter().filter(|name| of(inside, name)) {
            sections.push((format!("target.{target}.{name}"), table(inside, &[name])));
        }
    }
    sections
}

fn dependencies(manifest: &Table, text: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    for (section, entries) in sections(manifest) {
        let kind = match section.rsplit('.').next() {
            Some("dev-dependencies") => Kind::Dev,
            Some("build-dependencies") => Kind::Build,
            _ => Kind::Normal,
        };
        for (name, entry) in entries {
            // `package = "…"` renames: what counts is what is really asked for.
            let real = entry.get("package").and_then(Value::as_str).unwrap_or(name);
            let line = section_entry_line(text, &section, name);
            found.push(Dependency { name: real.to_owned(), kind, line });
        }
    }
    found
}

/// The table at a path of keys; an empty one when there is none.
fn table<'t>(from: &'t Table, keys: &[&str]) -> &'t Table {
    static EMPTY: std::sync::OnceLock<Table> = std::sync::OnceLock::new();
    let empty = EMPTY.get_or_init(Table::new);
    keys.iter().fold(from, |table, key| table.get(*key).and_then(Value::as_table).unwrap_or(empty))
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The first line that starts with `text`, from 1; 0 when there is none.
fn line_of(manifest: &str, text: &str) -> usize {
    manifest.lines().position(|line| line.starts_with(text)).map_or(0, |at| at + 1)
}

/// The first line at which the key `name` is set.
fn entry_line(manifest: &str, name: &str) -> usize {
    manifest.lines().position(|line| sets(line, name)).map_or(0, |at| at + 1)
}

/// The same, below the head `[section]`, where a crate stands in more than one.
fn section_entry_line(manifest: &str, section: &str, name: &str) -> usize {
    let head = format!("[{section}]");
    let start = manifest.lines().position(|line| line.trim() == head).unwrap_or(0);
    manifest.lines().skip(start).position(|line| sets(line, name)).map_or(0, |at| start + at + 1)
}

fn sets(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
}
