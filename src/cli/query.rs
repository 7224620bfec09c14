//! `query`: reads the store, streaming.

use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::Value;

use super::failure::{ExitCode, Failure};
use super::filter::Filter;
use super::follow;
use super::session::{Session, block_on};
use super::ui::{self, Ui};

const EXAMPLES: &str = "Examples:
  gitops-agent query --since 2026-07-01 --until 2026-09-30 --tag HIPAA
  gitops-agent query --min-risk 0.7 --format csv > risky.csv
  gitops-agent query --commit 95de8fc9 --format json
  gitops-agent query --citation '45 CFR 164.312' --since 2026-07-01 --until 2026-09-30
  gitops-agent query --author ada@example.com --path src/auth/ --level high
  gitops-agent query --follow --cursor siem.cursor --min-risk 0.7 | siem-import

--follow prints every record that matches, the ones that are there first, then each that is created or replaced,
until it is told to stop or nobody reads. Each record comes at least once after its last change: keep the latest by
id. With --cursor it goes on where it was when it ended, however it ended.";

/// Read the store.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    filter: Filter,
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = limit)]
    limit: Option<usize>,
    /// How to print; table unless given, ndjson with --follow.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Go on with what changes, for downstream systems: ndjson or csv.
    #[arg(long, conflicts_with_all = ["limit", "json"])]
    follow: bool,
    /// Where `--follow` keeps how far it has come.
    #[arg(long, value_name = "FILE", requires = "follow")]
    cursor: Option<PathBuf>,
    /// Seconds between two looks for changes.
    #[arg(long, value_name = "SECONDS", requires = "follow", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    every: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// One array.
    Json,
    /// One record a line.
    Ndjson,
    /// One line a record, the fields that fit one.
    Csv,
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "must be a whole number from 1".to_owned())
}

pub(super) fn run(args: &QueryArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let session = Session::here(None)?;
    let mut query = args.filter.query(&session)?;
    query.limit = args.limit;
    let store = session.store()?;
    if args.follow {
        let format = args.format.unwrap_or(Format::Ndjson);
        let destination = session.settings.destination.value.clone();
        let every = std::time::Duration::from_secs(args.every.into());
        return follow::run(follow::Follow {
            store,
            query,
            destination,
            format,
            cursor: args.cursor.clone(),
            every,
        });
    }
    let format = if args.json { Format::Json } else { args.format.unwrap_or(Format::Table) };
    let mut printer = Printer::new(format, ui);
    let mut failed = None;
    block_on(async {
        let mut sink = |document: Value| match printer.print(document) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        };
        store.query(&query, &mut sink).await
    })??;
    if let Some(error) = failed {
        return Err(error);
    }
    let found = printer.finish()?;
    if found == 0 && format == Format::Table {
        ui.note(format!(
            "no record of tenant {:?} matches; `gitops-agent status` shows what is still queued",
            query.tenant
        ));
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: &[&str] = &[
    "id",
    "timestamp",
    "riskScore",
    "riskLevel",
    "compliance",
    "author",
    "repository",
    "branch",
    "files",
    "insertions",
    "deletions",
    "message",
    "riskPercentile",
    "riskCalibrated",
];

pub(super) struct Printer<'a> {
    format: Format,
    ui: &'a mut Ui,
    count: usize,
    rows: Vec<Vec<String>>,
}

/// The columns of a table, and those that are there only where a record has something in them.
const HEADING: &[&str] =
    &["commit", "date", "risk", "percentile", "calibrated", "level", "tags", "repository", "message"];
const BESIDE: std::ops::Range<usize> = 3..5;

/// Rows that a table collects before it is printed, so that columns line up without holding everything.
const PAGE: usize = 500;

impl<'a> Printer<'a> {
    pub(super) fn new(format: Format, ui: &'a mut Ui) -> Self {
        Self { format, ui, count: 0, rows: Vec::new() }
    }

    pub(super) fn print(&mut self, mut document: Value) -> Result<(), Failure> {
        plain(&mut document);
        let document = &document;
        self.count += 1;
        match self.format {
            Format::Ndjson => self.ui.json(document)?,
            Format::Json => {
                self.ui.raw().write_all(if self.count == 1 { b"[\n" } else { b",\n" })?;
                let text = ui::escaped(&serde_json::to_string_pretty(document)?);
                self.ui.raw().write_all(text.as_bytes())?;
            }
            Format::Csv => {
                if self.count == 1 {
                    csv_line(self.ui, COLUMNS)?;
                }
                csv_line(self.ui, csv_row(document))?;
            }
            Format::Table => {
                self.rows.push(table_row(document));
                if self.rows.len() == PAGE {
                    self.flush_table()?;
                }
            }
        }
        Ok(())
    }

    /// Hands on what was printed.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.ui.raw().flush()?)
    }

    fn flush_table(&mut self) -> Result<(), Failure> {
        let mut heading = HEADING.to_vec();
        let mut rows = std::mem::take(&mut self.rows);
        // Where no repository's history is known, nobody has these.
        for column in BESIDE.rev() {
            if rows.iter().all(|row| row[column].is_empty()) {
                heading.remove(column);
                for row in &mut rows {
                    row.remove(column);
                }
            }
        }
        self.ui.table(&heading, rows)?;
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<usize, Failure> {
        match self.format {
            Format::Json => self.ui.raw().write_all(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?,
            Format::Table => self.flush_table()?,
            Format::Csv if self.count == 0 => csv_line(self.ui, COLUMNS)?,
            Format::Csv | Format::Ndjson => {}
        }
        self.ui.raw().flush()?;
        Ok(self.count)
    }
}

/// Whole numbers lose their fraction of zero, as they do in Cosmos DB: a record prints alike from either store.
fn plain(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(fields) => fields.values_mut().for_each(plain),
        Value::Number(number) if number.is_f64() => {
            // Below 2^53 every whole number is exact.
            if let Some(whole) = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15) {
                #[expect(clippy::cast_possible_truncation, reason = "see above")]
                let whole = whole as i64;
                *value = whole.into();
            }
        }
        _ => {}
    }
}

fn csv_line<T: AsRef<[u8]>>(ui: &mut Ui, cells: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(ui.raw());
    writer.write_record(cells).map_err(std::io::Error::other)?;
    Ok(writer.flush()?)
}

fn text(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    }
}

fn subject(document: &Value) -> String {
    let message = text(document, "/message");
    let subject = message.lines().next().unwrap_or("");
    subject.chars().take(60).collect()
}

fn table_row(document: &Value) -> Vec<String> {
    let id = text(document, "/id");
    let number = |name: &str, decimals: usize| {
        document[name].as_f64().map_or_else(String::new, |number| format!("{number:.decimals$}"))
    };
    vec![
        id.chars().take(12).collect(),
        text(document, "/commitDate"),
        number("riskScore", 3),
        number("riskPercentile", 1),
        number("riskCalibrated", 3),
        text(document, "/riskLevel"),
        text(document, "/compliance"),
        text(document, "/repository/name"),
        subject(document),
    ]
}

/// A cell that a spreadsheet would run as a formula gets a quote in front (OWASP, "CSV injection").
fn cell(text: String) -> String {
    let text = ui::safe(&text);
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

fn csv_row(document: &Value) -> Vec<String> {
    let mut author = text(document, "/author/email");
    if author.is_empty() {
        author = text(document, "/author/hash");
    }
    [
        text(document, "/id"),
        text(document, "/timestamp"),
        text(document, "/riskScore"),
        text(document, "/riskLevel"),
        text(document, "/compliance"),
        author,
        text(document, "/repository/name"),
        text(document, "/repository/branch"),
        text(document, "/stats/files"),
        text(document, "/stats/insertions"),
        text(document, "/stats/deletions"),
        subject(document),
        text(document, "/riskPercentile"),
        text(document, "/riskCalibrated"),
    ]
    .into_iter()
    .map(cell)
    .collect()
}
