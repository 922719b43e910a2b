//! Rows whose columns stand below each other.

use unicode_width::UnicodeWidthStr as _;

/// Aligns the columns two spaces apart; the last one is not filled up.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    spaced(rows, 0, 2)
}

/// Aligns the columns as docker does: each at least ten wide, three spaces apart.
pub(crate) fn wide(rows: &[Vec<String>]) -> String {
    spaced(rows, 10, 3)
}

/// `least` includes the `gap`.
fn spaced(rows: &[Vec<String>], least: usize, gap: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        (cells.map(|cell| cell.width()).max().unwrap_or(0) + gap).max(least)
    };
    let widths = Vec::from_iter((0..columns).map(width));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(cell.width())));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a", "b"], ["long", "c"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "a     b\nlong  c\n");
        let rows =
            [["ID", "B"], ["漢字", "c"], ["0123456789ab", "d"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(wide(&rows), "ID             B\n漢字           c\n0123456789ab   d\n");
    }
}
