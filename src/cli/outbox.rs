//! `outbox`: looks into the queue and acts on held and refused records.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use clap::ValueEnum;
use gitops_agent::outbox::{EntrySummary, OutboxError, Selection, State};
use jiff::Timestamp;
use serde_json::json;

use super::environment;
use super::failure::{DISK, ExitCode, Failure, USAGE};
use super::session::Session;
use super::ui::{self, EscapedLines, Ui};

/// Look into the queue and act on held and refused records.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  gitops-agent outbox list --state refused
  gitops-agent outbox show 95de8fc9
  gitops-agent outbox retry --state held
  gitops-agent outbox discard 95de8fc9 --why 'test commit' --yes
  gitops-agent outbox export --out waiting.ndjson")]
pub(super) struct OutboxArgs {
    #[command(subcommand)]
    command: OutboxCommand,
}

#[derive(clap::Subcommand, Debug)]
enum OutboxCommand {
    /// What is in the queue.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// One commit's entries, with the record and the store's words.
    Show {
        /// The commit's id, or the beginning of it.
        commit: String,
    },
    /// Let refused, held and waiting records go again.
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Give a record up: it leaves a tombstone with who, when and why.
    Discard {
        /// The commit's id, or the beginning of it.
        commit: String,
        /// Why; kept in the tombstone.
        #[arg(long, value_name = "TEXT", default_value = "no reason given")]
        why: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Write the records that are still here, one a line.
    Export {
        #[command(flatten)]
        which: Which,
        /// Into this file, which must not exist; standard output unless given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Which entries; all that are still waiting unless given.
#[derive(clap::Args, Debug)]
struct Which {
    /// A commit's id, or the beginning of it.
    #[arg(value_name = "COMMIT")]
    commit: Option<String>,
    /// Those in one state.
    #[arg(long, value_enum, conflicts_with = "commit")]
    state: Option<StateName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateName {
    Pending,
    Held,
    Refused,
    Delivered,
    Discarded,
}

impl Which {
    fn selection(&self) -> Selection {
        match (&self.commit, self.state) {
            (Some(commit), _) => Selection::Commit(commit.to_ascii_lowercase()),
            (None, Some(state)) => Selection::In(match state {
                StateName::Pending => State::Pending,
                StateName::Held => State::Held,
                StateName::Refused => State::Refused,
                StateName::Delivered => State::Delivered,
                StateName::Discarded => State::Discarded,
            }),
            (None, None) => Selection::All,
        }
    }
}

pub(super) fn run(args: &OutboxArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let session = Session::here(None)?;
    let mut outbox = session.outbox()?;
    match &args.command {
        OutboxCommand::List { which, limit, json } => {
            let entries = outbox.list(&which.selection(), *limit)?;
            if *json {
                ui.json(&entries)?;
            } else {
                print(&entries, *limit, ui)?;
            }
        }
        OutboxCommand::Show { commit } => ui.pretty_json(&outbox.show(&commit.to_ascii_lowercase())?)?,
        OutboxCommand::Retry { which } => {
            // A commit that is not in the queue is an error, an empty queue is none.
            if let Some(commit) = &which.commit {
                outbox.show(&commit.to_ascii_lowercase())?;
            }
            let count = ui::count(outbox.retry(&which.selection())?, "record");
            ui.line(format!("{count} can go again; `gitops-agent flush` delivers now"))?;
        }
        OutboxCommand::Discard { commit, why, yes } => {
            let entries = outbox.show(&commit.to_ascii_lowercase())?;
            if let Some(first) = entries.first()
                && entries
                    .iter()
                    .all(|entry| matches!(entry.summary.state, State::Delivered | State::Discarded))
            {
                return Err(OutboxError::Settled(first.summary.id.clone()).into());
            }
            if !yes {
                return Err(Failure::new(USAGE, format!("discarding {commit} loses its record for good"))
                    .hint(format!(
                        "`gitops-agent outbox export {commit}` keeps a copy; then repeat with --yes"
                    )));
            }
            let who = environment::variable("USER").or_else(|| environment::variable("LOGNAME"));
            let who = who.unwrap_or_else(|| "unknown".to_owned());
            let entries = outbox.discard(&commit.to_ascii_lowercase(), &who, why, Timestamp::now())?;
            for entry in entries {
                ui.line(format!("discarded {} of tenant {}", entry.id, entry.tenant))?;
            }
        }
        OutboxCommand::Export { which, out } => {
            let count = match out {
                Some(path) => {
                    let problem =
                        |error: std::io::Error| Failure::new(DISK, format!("{}: {error}", path.display()));
                    let mut file = BufWriter::new(File::create_new(path).map_err(problem)?);
                    let count = outbox.export(&which.selection(), &mut file)?;
                    file.flush().map_err(problem)?;
                    count
                }
                None => {
                    let count = outbox.export(&which.selection(), &mut EscapedLines::new(ui.raw()))?;
                    ui.raw().flush()?;
                    count
                }
            };
            ui.note(ui::count(count, "record"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(entries: &[EntrySummary], limit: usize, ui: &mut Ui) -> Result<(), Failure> {
    let rows = entries
        .iter()
        .map(|entry| {
            vec![
                entry.id.chars().take(12).collect(),
                entry.date.clone(),
                entry.tenant.clone(),
                json!(entry.state).as_str().unwrap_or_default().to_owned(),
                entry.attempts.to_string(),
                entry.destination.to_string(),
                entry.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    ui.table(&["commit", "date", "tenant", "state", "attempts", "destination", "reason"], rows)?;
    if entries.len() == limit {
        ui.note(format!("the first {limit}; `--limit` shows more"));
    }
    Ok(())
}
