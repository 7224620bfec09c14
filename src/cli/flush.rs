//! `flush`: delivers now, in the foreground; and the delivery that backfill and the worker share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gitops_agent::capture::Repo;
use gitops_agent::deferred;
use gitops_agent::delivery::{self, Options, Surroundings, WorkerLock};
use gitops_agent::destination::Destination;
use gitops_agent::outbox::{Outbox, is_ours, spool_in};
use jiff::Timestamp;
use serde_json::Value;

use super::failure::{DENIED, DISK, ExitCode, Failure, PARTLY};
use super::hook;
use super::reconcile::{self, Pace};
use super::session::{Session, block_on};
use super::ui::{Ui, count};

pub(super) use gitops_agent::delivery::Report;

/// Deliver now, in the foreground.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all delivered, 3 some are still pending or refused (all kept), 4 access denied (held).

Examples:
  gitops-agent flush
  gitops-agent flush --timeout 30 --json"
)]
pub(super) struct FlushArgs {
    /// Give up waiting after so many seconds; nothing is lost.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &FlushArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = Repo::open_from_env().ok();
    let session = match &repo {
        Some(repo) => Session::of_repo(repo, None)?,
        None => Session::of_user()?,
    };
    let timeout = args.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let report = deliver(&session, repo.as_ref(), timeout, ui)?;
    if args.json {
        ui.json(&report)?;
    } else {
        print(&report, ui)?;
    }
    Ok(exit_code(&report))
}

/// Delivers everything that is due, as the only one of all processes of the user; another one that is at
/// work is waited for.
pub(super) fn deliver(
    session: &Session,
    repo: Option<&Repo>,
    timeout: Option<Duration>,
    ui: &Ui,
) -> Result<Report, Failure> {
    let data = session.paths()?.data().to_owned();
    let mut outbox = session.outbox()?;
    if let Some(notice) = outbox.notice() {
        ui.note(notice.to_string());
    }
    let lock = lock(&data, timeout, ui)?;
    let options = Options { deadline: timeout, force: true, patience: Duration::ZERO, ..Options::default() };
    hand_over(session, lock, &mut outbox, repo, (options, Pace::Foreground), ui)
}

/// Judges what was noted, reconciles, and hands what is queued to the stores; once more where reconciliation
/// has left something, or a hook has noted something meanwhile, since that hook found the lock taken and
/// started nobody.
pub(super) fn hand_over(
    session: &Session,
    lock: WorkerLock,
    outbox: &mut Outbox,
    repo: Option<&Repo>,
    (mut options, pace): (Options, Pace),
    ui: &Ui,
) -> Result<Report, Failure> {
    let open = |place: &Destination| session.open_store(place);
    let mut lock = Some(lock);
    options.budget = session.settings.budget_ru.as_ref().map(|budget| budget.value);
    let mut report = Report::default();
    while let Some(held) = lock.take() {
        options.spool_dirs = spool_folders(session, outbox, repo)?;
        let noted = notes(&options.spool_dirs)?;
        // What hooks have recorded must not be found again.
        report.spool_damaged.extend(outbox.take_in_spool(&options.spool_dirs, Timestamp::now())?.set_aside);
        prepare(session, outbox, &options.spool_dirs, ui)?;
        let more = reconcile::all(session, outbox, repo, pace, ui)?;
        let surroundings = Surroundings { now: &Timestamp::now, random: &mut fastrand::f64 };
        let delivered = block_on(delivery::deliver(held, outbox, open, &options, surroundings))??;
        report.add(delivered);
        if more || !notes(&options.spool_dirs)?.is_subset(&noted) {
            lock = WorkerLock::try_acquire(session.paths()?.data())?;
        }
    }
    Ok(report)
}

/// The notes that lie in the folders.
fn notes(folders: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    for folder in folders {
        found.extend(deferred::files(folder)?);
    }
    Ok(found)
}

fn lock(data: &Path, timeout: Option<Duration>, ui: &Ui) -> Result<WorkerLock, Failure> {
    let failed = |error: std::io::Error| Failure::new(DISK, format!("{}: {error}", data.display()));
    if let Some(lock) = WorkerLock::try_acquire(data).map_err(failed)? {
        return Ok(lock);
    }
    let holder =
        WorkerLock::holder(data).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    ui.note(format!("{holder} is delivering; waiting for it"));
    WorkerLock::wait(data, timeout).map_err(failed)?.ok_or_else(|| {
        Failure::new(PARTLY, format!("{holder} is still delivering; all records are kept"))
            .hint("`gitops-agent status` shows how far it is")
    })
}

/// Judges what hooks could only note and lets records go that waited for a tenant.
fn prepare(session: &Session, outbox: &mut Outbox, folders: &[PathBuf], ui: &Ui) -> Result<(), Failure> {
    if !notes(folders)?.is_empty() {
        match session.rules_in_force()?.broken {
            None => {
                for folder in folders {
                    judge_notes(folder, outbox, ui)?;
                }
            }
            // All of them wait for the same thing; to try each would only take time.
            Some(broken) => ui.note(format!("noted commits wait to be judged: {}", broken.error)),
        }
    }
    let here = &session.settings;
    if here.hold().is_none() && here.destination.value != Destination::Local {
        let tenant = &here.tenant.value;
        outbox.assign_tenant(&here.destination.value, tenant, Timestamp::now(), |record| {
            record["tenantId"] = Value::String(tenant.clone());
            Ok(record["digest"].as_str().unwrap_or_default().to_owned())
        })?;
    }
    Ok(())
}

/// The agent's own spool folder, and those in the common Git folders of the repositories it knows.
fn spool_folders(session: &Session, outbox: &Outbox, repo: Option<&Repo>) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = vec![spool_in(session.paths()?.data())];
    let known = outbox.repositories()?;
    let opened = known.iter().filter_map(|row| Repo::open(&row.path).ok());
    let common: Vec<PathBuf> = opened.map(|repo| repo.common_dir().to_owned()).collect();
    for folder in repo.map(|repo| repo.common_dir().to_owned()).into_iter().chain(common) {
        let folder = spool_in(&folder.join("gitops-agent"));
        if folder.is_dir() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    Ok(folders)
}

/// Judges the commits that hooks could only note. A note stays until all of its commits are queued.
fn judge_notes(folder: &Path, outbox: &mut Outbox, ui: &Ui) -> Result<(), Failure> {
    for path in deferred::files(folder)? {
        match trusted_note(folder, &path, outbox).and_then(|note| judge(&note, outbox)) {
            Ok(()) => std::fs::remove_file(&path)?,
            Err(failure) => ui.note(format!(
                "{}: commits are noted there but cannot be recorded yet: {}",
                path.display(),
                failure.line()
            )),
        }
    }
    Ok(())
}

/// Reads a note that this user wrote, and that names no store unknown to the user where it lay in a repository.
fn trusted_note(folder: &Path, path: &Path, outbox: &Outbox) -> Result<deferred::Note, Failure> {
    if !is_ours(folder) || !is_ours(path) {
        return Err(Failure::new(DISK, "another user owns it or may write to it"));
    }
    let note = deferred::read(path).map_err(|problem| Failure::new(DISK, problem))?;
    if let Some(destination) = &note.destination
        && !outbox.may_name(folder, destination)?
    {
        let problem =
            format!("it names a store that neither the settings nor earlier records name: {destination}");
        return Err(
            Failure::new(DISK, problem).hint("`gitops-agent flush` under the settings that name that store")
        );
    }
    Ok(note)
}

/// Judges what can be; the first failure of another one is what keeps the note.
fn judge(note: &deferred::Note, outbox: &mut Outbox) -> Result<(), Failure> {
    let repo = Repo::open(&note.git_dir)?;
    let session = Session::of_repo(&repo, None)?;
    if !session.settings.enabled.value {
        return Ok(());
    }
    let rules = session.rules()?;
    // What this finds of the repository is kept: the hook that noted the commit had no time for it.
    let mut repository = hook::named(&repo);
    repository.branch = note.branch.clone();
    let recorder = session.recorder_of(repository, &rules);
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
    let now = Timestamp::now();
    let destination = note.destination.as_ref().unwrap_or(&session.settings.destination.value);
    let mut failure = None;
    repo.reading(|reading| {
        for commit in &note.commits {
            let made = repo.resolve_one(&commit.id).map_err(Failure::from).and_then(|id| {
                Ok(recorder.record(reading, &id, &note.source, commit.supersedes.clone(), now)?)
            });
            match made {
                Ok(made) => {
                    outbox.enqueue(&[hook::entry(&made, &session, destination, place)], now)?;
                }
                Err(error) => failure = failure.take().or(Some(error)),
            }
        }
        Ok::<_, Failure>(())
    })??;
    if session.settings.class.is_none() {
        recorder.inferred().keep(&repo);
    }
    outbox.register_repository(place, &recorder.repository().id, now)?;
    failure.map_or(Ok(()), Err)
}

/// The contract's exit code for what is left.
pub(super) fn exit_code(report: &Report) -> ExitCode {
    match report {
        Report { held: 1.., .. } => ExitCode::from(DENIED),
        Report { pending: 1.., .. } | Report { refused: 1.., .. } => ExitCode::from(PARTLY),
        _ => ExitCode::SUCCESS,
    }
}

/// One line for people, and the store's words where something is left.
pub(super) fn print(report: &Report, ui: &mut Ui) -> Result<(), Failure> {
    let left = [(report.pending, "pending"), (report.held, "held"), (report.refused, "refused")];
    let left: Vec<String> =
        left.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    let left = if left.is_empty() { "nothing left".to_owned() } else { left.join(", ") };
    let already =
        if report.already > 0 { format!(" ({} were there already)", report.already) } else { String::new() };
    ui.line(format!("{} delivered{already}; {left}", report.delivered))?;
    if report.postponed > 0 {
        let waiting = count(report.postponed, "record");
        ui.line(format!("{waiting} of history wait for tomorrow (UTC): the day's store.budget_ru is spent"))?;
    }
    for path in &report.spool_damaged {
        ui.note(format!(
            "a damaged spool file was set aside as {}; `gitops-agent verify` names its commit",
            path.display()
        ));
    }
    for problem in &report.spool_problems {
        ui.note(problem);
    }
    for error in &report.errors {
        ui.line(format!("{}: {}: {}", error.destination, error.kind, error.message))?;
        if let Some(hint) = &error.hint {
            ui.line(format!("  next: {hint}"))?;
        }
    }
    Ok(())
}
