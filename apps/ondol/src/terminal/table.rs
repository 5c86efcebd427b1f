//! Columns of text, aligned by what the terminal shows: Hangul counts double. Pure.

use unicode_width::UnicodeWidthStr;

/// Left-aligned columns with a header, four spaces between, nothing after the last cell.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = String::new();
    line(&mut out, header.iter().copied(), &widths);
    for row in rows {
        line(&mut out, row.iter().map(String::as_str), &widths);
    }
    out
}

/// A titled block of `show`: the title, then rows indented below it, their first column aligned.
pub(crate) fn section(title: &str, rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let mut out = format!("  {title}\n");
    for (name, value) in rows {
        let row = format!("    {name}{}{value}", " ".repeat(width - name.width() + 4));
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out.push('\n');
    out
}

fn line<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let mut text = String::new();
    for (cell, width) in cells.zip(widths) {
        text.push_str(cell);
        text.push_str(&" ".repeat(width - cell.width() + 4));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_line_up_in_both_scripts() {
        let table = columns(
            &["NAME", "MODIFIED"],
            &[row(&["smollm2:latest", "2 weeks ago"]), row(&["한국어:1b", "2주 전"])],
        );
        assert_eq!(
            table,
            "NAME              MODIFIED\nsmollm2:latest    2 weeks ago\n한국어:1b         2주 전\n"
        );
    }

    #[test]
    fn an_empty_table_has_its_header() {
        assert_eq!(columns(&["NAME", "ID"], &[]), "NAME    ID\n");
    }

    #[test]
    fn sections_indent() {
        let rows = [("구조".to_owned(), "llama".to_owned()), ("파라미터".to_owned(), "134.52M".to_owned())];
        assert_eq!(section("모델", &rows), "  모델\n    구조        llama\n    파라미터    134.52M\n\n");
    }
}
