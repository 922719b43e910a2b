//! Text in columns, as Go's tabwriter lays out runc's `list`.

/// The narrowest column, and the space after its longest cell.
const NARROWEST: usize = 12;
const PADDING: usize = 3;

/// Lays out rows with equally many cells. The last column is not padded.
///
/// Control characters become `?`: a path of a bundle must not be able to write on somebody's terminal.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        NARROWEST.max(longest + PADDING)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.extend(cell.chars().map(|c| if c.is_control() { '?' } else { c }));
            if column + 1 < N {
                out.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> [String; 3] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_never_narrow() {
        let text = aligned(&[row(["ID", "PID", "BUNDLE"]), row(["a-rather-long-name", "1", "/x"])]);
        assert_eq!(text, "ID                   PID         BUNDLE\na-rather-long-name   1           /x\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(aligned(&[row(["a", "b", "\u{1b}[2J\n"])]), "a           b           ?[2J?\n");
    }
}
