//! How answers look: aligned text, or JSON with the schema's names.

mod chain;
mod peers;
mod status;

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::print::print;
use super::Failure;
use crate::block::BlockId;
use crate::store::Durability;
use crate::util::printable::{Escape, Limit, printable};
pub use crate::util::saturate::millis;

/// In which form to answer.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub json: bool,
}

/// Text of others, without anything that a terminal would obey, and of bounded length.
pub fn plain(text: &str) -> String {
    printable(text, Escape::DebugButQuotes, Limit::TextChars(512))
}

/// Two columns of text: a label, and what is said.
type TextRow = (&'static str, String);

/// Two columns, the first as wide as its widest.
fn columns(rows: &[TextRow]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// A table with a heading, each column as wide as its widest cell.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heading)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines.join("\n")
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

pub fn id_json(id: BlockId) -> Value {
    json!({ "height": id.height.get(), "hash": id.hash.to_string() })
}

pub fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Power => "power",
        Durability::Process => "process",
    }
}

/// To the second: nobody wants to know more of an uptime.
fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

impl Printer {
    pub fn say(self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { print(&json().to_string()) } else { print(&text()) }
    }

    pub fn done(self) -> Result<(), Failure> {
        self.say(|| json!({ "done": true }), || "done".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_command_a_terminal() {
        assert_eq!(plain("it's \"fine\""), "it's \"fine\"");
        assert_eq!(plain("\u{1b}[2Jgone\n\u{202e}x"), "\\u{1b}[2Jgone\\n\\u{202e}x");
        assert_eq!(plain(&"a".repeat(600)).len(), 515);
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long one".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME      N\na         1\nlong one  2");
        assert_eq!(columns(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2");
    }
}
