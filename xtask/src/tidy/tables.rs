//! Tables of ARCHITECTURE.md that rules read. Each stands under a mark, `<!-- tidy:NAME -->`, so that prose may move
//! around it; names in a cell stand in backticks, and everything else in a cell is for people.

use super::Finding;
use super::tree::Tree;

pub(crate) const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// One row of a table.
#[derive(Debug)]
pub(crate) struct Row {
    /// In ARCHITECTURE.md, from 1.
    pub(crate) line: usize,
    pub(crate) cells: Vec<String>,
}

impl Row {
    /// The names in backticks of one cell.
    pub(crate) fn names(&self, cell: usize) -> Vec<&str> {
        self.cells.get(cell).map(|text| names(text)).unwrap_or_default()
    }

    pub(crate) fn text(&self, cell: usize) -> &str {
        self.cells.get(cell).map_or("", String::as_str)
    }
}

/// What stands in backticks.
pub(crate) fn names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows under the mark `name`, without the head. An absent table is a finding, and no rows.
pub(crate) fn read(tree: &Tree, rule: &'static str, name: &str, findings: &mut Vec<Finding>) -> Vec<Row> {
    let text = tree.text(ARCHITECTURE).unwrap_or_default();
    let mark = format!("<!-- tidy:{name} -->");
    let rows: Vec<Row> = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| line.trim() != mark)
        .skip(1)
        .skip_while(|(_, line)| line.trim().is_empty())
        .take_while(|(_, line)| line.trim_start().starts_with('|'))
        .skip(2)
        .map(|(at, line)| Row { line: at + 1, cells: cells(line) })
        .collect();
    if rows.is_empty() {
        findings.push(Finding::new(rule, ARCHITECTURE, 0, format!("has no table under {mark}: restore it")));
    }
    rows
}

fn cells(line: &str) -> Vec<String> {
    let inside = line.trim().trim_start_matches('|').trim_end_matches('|');
    inside.split('|').map(|cell| cell.trim().to_owned()).collect()
}
