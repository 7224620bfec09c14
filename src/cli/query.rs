//! `query`: reads the store, streaming.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use gitops_agent::config;
use gitops_agent::record::Identity;
use gitops_agent::store::Query;
use serde_json::Value;

use super::failure::{Failure, USAGE};
use super::session::{Session, block_on};
use super::ui::{self, Ui};

/// Read the store.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  gitops-agent query --since 2026-07-01 --until 2026-09-30 --tag HIPAA\n  gitops-agent query --min-risk 0.7 --format csv > risky.csv\n  gitops-agent query --commit 95de8fc9 --format json\n  gitops-agent query --citation '45 CFR 164.312' --since 2026-07-01 --until 2026-09-30\n  gitops-agent query --author ada@example.com --path src/auth/ --level high"
)]
pub(super) struct QueryArgs {
    /// The tenant; the configured one unless given.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// First day, inclusive.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    since: Option<String>,
    /// Last day, inclusive.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    until: Option<String>,
    /// Least risk score, 0 to 1.
    #[arg(long, value_name = "X", value_parser = score)]
    min_risk: Option<f64>,
    /// A tag that the commit must carry; repeat it for several.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The risk level.
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// A rule that made a finding, by its id.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// A citation of a finding; `45 CFR 164.312` finds its paragraphs, too.
    #[arg(long, value_name = "CITATION")]
    citation: Option<String>,
    /// A file that was changed; with a / at its end, anything in that folder.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The author, by address or name; where people are pseudonyms, by address.
    #[arg(long, value_name = "WHO")]
    author: Option<String>,
    /// One commit, by its id or the beginning of it.
    #[arg(long, value_name = "SHA", value_parser = commit)]
    commit: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = limit)]
    limit: Option<usize>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Low,
    Medium,
    High,
}

impl Level {
    /// As it stands in a record.
    fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One array.
    Json,
    /// One record a line.
    Ndjson,
    /// One line a record, the fields that fit one.
    Csv,
}

fn day(text: &str) -> Result<String, String> {
    text.parse::<jiff::civil::Date>()
        .ok()
        .filter(|_| text.len() == 10)
        .map(|date| date.to_string())
        .ok_or_else(|| "must be a day such as 2026-07-01".to_owned())
}

fn score(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|score| (0.0..=1.0).contains(score))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "must be a whole number from 1".to_owned())
}

fn commit(text: &str) -> Result<String, String> {
    let ok = (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if ok { Ok(text.to_ascii_lowercase()) } else { Err("must be 4 to 64 hexadecimal digits".to_owned()) }
}

pub(super) fn run(args: &QueryArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    // Days of ten characters compare as text.
    if let (Some(since), Some(until)) = (&args.since, &args.until)
        && since > until
    {
        let message = format!("--since {since} is later than --until {until}: no day lies between");
        return Err(Failure::new(USAGE, message).hint("swap the two"));
    }
    let session = Session::here(None)?;
    let tenant = match &args.tenant {
        Some(given) => config::tenant(given)
            .map_err(|problem| Failure::new(USAGE, format!("--tenant {given:?} {problem}")))?,
        None => session.settings.tenant.value.clone(),
    };
    let pseudonym = |who: &String| [who.clone(), Identity::pseudonym(&tenant, who)];
    let query = Query {
        authors: args.author.as_ref().map(pseudonym).into_iter().flatten().collect(),
        tenant,
        since: args.since.clone(),
        until: args.until.clone(),
        min_risk: args.min_risk,
        tags: args.tags.clone(),
        commit: args.commit.clone(),
        level: args.level.map(|level| level.name().to_owned()),
        rule: args.rule.clone(),
        citation: args.citation.clone(),
        path: args.path.clone(),
        limit: args.limit,
    };
    let store = session.store()?;
    let mut printer = Printer::new(if args.json { Format::Json } else { args.format }, ui);
    let mut failed = None;
    block_on(async {
        let mut sink = |document: Value| match printer.print(&document) {
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
    if found == 0 && matches!(args.format, Format::Table) && !args.json {
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
];

struct Printer<'a> {
    format: Format,
    ui: &'a mut Ui,
    count: usize,
    rows: Vec<Vec<String>>,
}

/// Rows that a table collects before it is printed, so that columns line up without holding everything.
const PAGE: usize = 500;

impl<'a> Printer<'a> {
    fn new(format: Format, ui: &'a mut Ui) -> Self {
        Self { format, ui, count: 0, rows: Vec::new() }
    }

    fn print(&mut self, document: &Value) -> Result<(), Failure> {
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

    fn flush_table(&mut self) -> Result<(), Failure> {
        let heading = ["commit", "date", "risk", "level", "tags", "repository", "message"];
        self.ui.table(&heading, std::mem::take(&mut self.rows))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<usize, Failure> {
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
    vec![
        id.chars().take(12).collect(),
        text(document, "/commitDate"),
        document
            .pointer("/riskScore")
            .and_then(Value::as_f64)
            .map_or_else(String::new, |risk| format!("{risk:.3}")),
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
    ]
    .into_iter()
    .map(cell)
    .collect()
}
