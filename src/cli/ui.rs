//! Standard output and standard error. No control character of a commit, path or server reaches a terminal.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// The two streams, and how much to say.
pub(super) struct Ui {
    quiet: bool,
    out: io::BufWriter<io::Stdout>,
}

impl Ui {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, out: io::BufWriter::new(io::stdout()) }
    }

    /// One line of the answer.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", safe(text.as_ref()))?;
        self.out.flush()
    }

    /// Bytes of the answer as they are: JSON and CSV, which escape for themselves.
    pub(super) fn raw(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// One JSON value, on one line.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), serde_json::Error> {
        let text = escaped(&serde_json::to_string(value)?);
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(serde_json::Error::io)
    }

    /// One JSON value for people to read.
    pub(super) fn pretty_json(&mut self, value: &impl Serialize) -> Result<(), serde_json::Error> {
        let text = escaped(&serde_json::to_string_pretty(value)?);
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(serde_json::Error::io)
    }

    /// A table with a heading; nothing where there are no rows.
    pub(super) fn table(&mut self, heading: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heading.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| safe(cell)));
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        self.out.flush()
    }

    /// A remark beside the answer, on standard error; silent with `--quiet`.
    pub(super) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            error(text.as_ref());
        }
    }

    /// A progress bar on a terminal, nothing elsewhere.
    pub(super) fn progress(&self, total: usize, what: &'static str) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total as u64).with_prefix(what);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style)
    }
}

/// `1 commit`, `2 commits`.
pub(super) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// A line on standard error; a closed stream is nobody's fault.
pub(super) fn error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", safe_lines(text));
}

/// JSON text in which nothing steers a terminal. JSON's own rule escapes what is below U+0020 only; whatever
/// else is hidden can stand in strings alone, where `\u…` means the same.
pub(super) fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && hidden(character) {
            // All of them are in the basic plane.
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

/// Passes JSON on line by line, [`escaped`].
pub(super) struct EscapedLines<W: Write> {
    inner: W,
    line: Vec<u8>,
}

impl<W: Write> EscapedLines<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, line: Vec::new() }
    }
}

impl<W: Write> Write for EscapedLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.inner.write_all(escaped(&String::from_utf8_lossy(&self.line)).as_bytes())?;
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The text with every control character made visible.
pub(super) fn safe(text: &str) -> String {
    text.chars().flat_map(visible).collect()
}

/// The same, but line ends stay.
fn safe_lines(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("\n")
}

/// Bidirectional overrides can make one path look like another.
fn hidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn visible(character: char) -> Vec<char> {
    if hidden(character) { character.escape_default().collect() } else { vec![character] }
}
