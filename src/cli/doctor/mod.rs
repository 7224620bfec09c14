//! `doctor`: does it really work here. Each part of the way from commit to store is looked at where it
//! counts: Git is asked which hooks it runs, the disk is written to, the store is reached, and a real
//! commit in a scratch repository is recorded and read back (`proof`).
//!
//! Every finding that is not in order carries the command that mends it. Nothing of the user's is changed: a
//! probe file in the agent's data folder is removed at once, and only `--write` writes into the store, as a
//! document of tenant `_doctor` that lives for 60 s.
//!
//! The names of the checks are for programs and stay.

mod carried;
mod hooks;
mod place;
mod process;
mod proof;
mod settings;
mod store;

use std::path::Path;

pub(super) use settings::SET_CLASS;

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::install::Git;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;

use super::RepoFlag;
use super::failure::{ExitCode, Failure, NO};
use super::session::Session;
use super::ui::Ui;

/// Does it really work here: hooks, settings, outbox, store, and a real commit in a scratch repository.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  gitops-agent doctor
  gitops-agent doctor --write    also write a probe into the store, in tenant _doctor
  gitops-agent doctor --json | jq '.checks[] | select(.status != \"ok\")'

Exits with 1 where anything failed; warnings alone are 0.")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    repo: RepoFlag,
    /// Write a probe into the store: one document in tenant `_doctor` that lives for 60 seconds.
    #[arg(long)]
    write: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    /// What was looked at; stays the same between versions.
    check: String,
    status: Status,
    message: String,
    /// The command or change that mends it; absent where all is well.
    mend: Option<String>,
}

/// The findings so far.
#[derive(Debug, Default)]
struct Findings {
    checks: Vec<Check>,
}

impl Findings {
    fn ok(&mut self, check: &str, message: impl Into<String>) {
        self.add(check, Status::Ok, message.into(), None);
    }

    fn warning(&mut self, check: &str, message: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Status::Warning, message.into(), Some(mend.into()));
    }

    fn failed(&mut self, check: &str, message: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Status::Failed, message.into(), Some(mend.into()));
    }

    fn add(&mut self, check: &str, status: Status, message: String, mend: Option<String>) {
        self.checks.push(Check { check: check.to_owned(), status, message, mend });
    }

    fn worst(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
    }
}

pub(super) fn run(args: &DoctorArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let mut found = Findings::default();
    let repo = repository(args, &mut found)?;
    let folder = repo.as_ref().map(|repo| repo.workdir().unwrap_or_else(|| repo.git_dir()));
    let program = match folder {
        Some(folder) => hooks::look(&Git::new(folder), &mut found),
        None => None,
    };
    let (session, problems) = Session::survey(repo.as_ref())?;
    settings::look(&session, repo.as_ref(), &problems, &mut found);
    if let Some(repo) = &repo {
        let rules = session.rules_in_force().ok().map(|in_force| in_force.rules);
        carried::look(repo, &session.settings, rules.as_ref(), &mut found);
    }
    place::look(&session, &mut found);
    store::look(&session, args.write, &mut found);
    clock(repo.as_ref(), &mut found);
    proof::look(program.as_deref(), &mut found);

    let worst = found.worst();
    if args.json {
        ui.json(&json!({ "schemaVersion": 1, "checks": found.checks, "health": health(worst) }))?;
    } else {
        print(&found, ui)?;
    }
    Ok(if worst == Status::Failed { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

/// The words of `status`.
fn health(worst: Status) -> &'static str {
    match worst {
        Status::Ok => "ok",
        Status::Warning => "degraded",
        Status::Failed => "failing",
    }
}

fn print(found: &Findings, ui: &mut Ui) -> Result<(), Failure> {
    for check in &found.checks {
        let status = match check.status {
            Status::Ok => "ok     ",
            Status::Warning => "WARNING",
            Status::Failed => "FAILED ",
        };
        ui.line(format!("{status} {}: {}", check.check, check.message))?;
        if let Some(mend) = &check.mend {
            ui.line(format!("        next: {mend}"))?;
        }
    }
    let count = |status| found.checks.iter().filter(|check| check.status == status).count();
    let (failed, warnings) = (count(Status::Failed), count(Status::Warning));
    ui.line(format!("{}: {failed} failed, {warnings} to look at", health(found.worst())))?;
    Ok(())
}

fn repository(args: &DoctorArgs, found: &mut Findings) -> Result<Option<Repo>, Failure> {
    match args.repo.open() {
        Ok(repo) => {
            let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
            let linked = if repo.git_dir() == repo.common_dir() { "" } else { ", a linked worktree" };
            found.ok("repository", format!("{}{linked}", place.display()));
            Ok(Some(repo))
        }
        Err(error @ CaptureError::NotARepository { .. }) => {
            if args.repo.repo.is_some() {
                return Err(error.into());
            }
            found.warning(
                "repository",
                "this folder is in no Git repository: hooks and repository settings were not looked at",
                "run `gitops-agent doctor` in a repository, or name one with --repo",
            );
            Ok(None)
        }
        Err(error) => {
            found.failed("repository", error.to_string(), "see what `git status` says there");
            Ok(None)
        }
    }
}

/// More than this and times of commits and retries are of no use.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// There is no better clock at hand to compare with; but nothing here can be from the future.
fn clock(repo: Option<&Repo>, found: &mut Findings) {
    let now = Timestamp::now();
    let committed = repo.and_then(|repo| repo.head().ok().flatten().and_then(|id| repo.committed_at(&id)));
    let program = std::env::current_exe().and_then(|exe| exe.metadata()?.modified());
    let installed = program.ok().and_then(|time| Timestamp::try_from(time).ok());
    let ahead = |time: &Timestamp| time.duration_since(now) > CLOCK_SLACK;
    let late = [(committed, "HEAD was committed"), (installed, "this program was installed")]
        .into_iter()
        .find_map(|(time, what)| time.filter(ahead).map(|time| (time, what)));
    match late {
        None => found.ok("clock", now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
        Some((time, what)) => found.warning(
            "clock",
            format!("the clock says {now}, but {what} at {time}: one of the two clocks is wrong"),
            "set the clock, for instance with `timedatectl set-ntp true`",
        ),
    }
}

/// A path for a message.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
