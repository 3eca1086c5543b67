//! The table as the README shows it.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::cells::{Cell, Operation};

const BEGIN: &str = "<!-- client matrix: begin (written by scripts/test) -->\n";
const END: &str = "<!-- client matrix: end -->\n";

/// The table of cells that are all green.
pub fn render(cells: &[Cell]) -> String {
    let titles: Vec<&str> = Operation::ALL.iter().map(|operation| operation.title()).collect();
    let mut table = format!("| client | {} |\n|---|{}\n", titles.join(" | "), ":-:|".repeat(titles.len()));
    let mut clients: Vec<&str> = cells.iter().map(|cell| cell.client).collect();
    clients.dedup();
    for client in clients {
        let does = |operation| cells.iter().any(|cell| cell.client == client && cell.operation == operation);
        let marks: Vec<&str> = Operation::ALL.iter().map(|o| if does(*o) { "✓" } else { "" }).collect();
        table.push_str(&format!("| {client} | {} |\n", marks.join(" | ")));
    }
    table
}

fn readme() -> PathBuf {
    crate::crate_folder().join("../README.md")
}

/// The table that README.md has now.
///
/// # Errors
/// If it has none.
pub fn readme_table() -> Result<String> {
    let text = std::fs::read_to_string(readme())?;
    let (_, rest) = text.split_once(BEGIN).context("README.md has no table of clients")?;
    let (table, _) = rest.split_once(END).context("README.md's table of clients has no end")?;
    Ok(table.to_owned())
}

/// Puts `table` into README.md.
///
/// # Errors
/// If it has no place for one.
pub fn replace(table: &str) -> Result<()> {
    let text = std::fs::read_to_string(readme())?;
    let (before, rest) = text.split_once(BEGIN).context("README.md has no place for the table of clients")?;
    let (_, after) = rest.split_once(END).context("README.md's table of clients has no end")?;
    Ok(std::fs::write(readme(), format!("{before}{BEGIN}{table}{END}{after}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::all;

    #[test]
    fn a_row_has_a_mark_for_each_operation_that_the_client_has() {
        let table = render(&all());
        let rows: Vec<&str> = table.lines().collect();
        assert!(rows.iter().all(|row| row.matches('|').count() == Operation::ALL.len() + 2), "{table}");
        let marks = rows.iter().map(|row| row.matches('✓').count()).sum::<usize>();
        assert_eq!(marks, all().len());
        assert!(table.contains("| aria2 |  |  |  | ✓ | ✓ |  |"), "{table}");
    }
}
