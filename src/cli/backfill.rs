//! `backfill`: records history. It skips what is recorded already, so that it can be ended and repeated at
//! any time, and writes in batches, each of which is durable before the next begins.

use std::collections::HashSet;
use std::path::PathBuf;

use gitops_agent::capture::{CaptureError, CommitId, Repo};
use gitops_agent::facts::CommitFacts;
use gitops_agent::history;
use gitops_agent::outbox::{Enqueued, Outbox};
use gitops_agent::record::ClassOf;
use gitops_agent::recorder::{RecordError, Recorded, Recorder};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use super::failure::{ExitCode, Failure, PARTLY, USAGE};
use super::session::{Session, block_on};
use super::ui::{self, Ui};
use super::{RepoFlag, flush, hook};

/// Record history: resumable, idempotent.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  gitops-agent backfill                          the history of HEAD
  gitops-agent backfill v1.0..HEAD
  gitops-agent backfill --all --since 2024-01-01
  gitops-agent backfill --dry-run --json | jq .riskScore")]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    repo: RepoFlag,
    /// Revisions as `git rev-list` takes them: `HEAD`, `v1..v2`, `^old`; HEAD unless given.
    #[arg(value_name = "REVISION", allow_hyphen_values = false)]
    revisions: Vec<String>,
    /// Every branch, tag and remote branch.
    #[arg(long)]
    all: bool,
    /// Only commits made on this day or later (committer date, UTC).
    #[arg(long, value_name = "DATE", value_parser = since)]
    since: Option<i64>,
    /// Only commits made on this day or earlier.
    #[arg(long, value_name = "DATE", value_parser = until)]
    until: Option<i64>,
    /// Threads; all cores unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Look into the store, and record again what was delivered once and is not there any more.
    #[arg(long)]
    missing: bool,
    /// Leave the records in the outbox.
    #[arg(long)]
    no_flush: bool,
    /// Store nothing.
    #[arg(long)]
    dry_run: bool,
    /// For programs; with `--dry-run` one record a line.
    #[arg(long)]
    json: bool,
    /// A folder of further rule packs.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
}

fn since(text: &str) -> Result<i64, String> {
    moment(text, false)
}

fn until(text: &str) -> Result<i64, String> {
    moment(text, true)
}

/// A day (its first or last second in UTC) or an RFC 3339 time, in seconds since 1970.
fn moment(text: &str, end: bool) -> Result<i64, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_second());
    }
    let day: Date = text
        .parse()
        .map_err(|_| "must be a day such as 2026-07-01 or a time such as 2026-07-01T12:00:00Z".to_owned())?;
    let time = if end { day.at(23, 59, 59, 0) } else { day.at(0, 0, 0, 0) };
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
    Ok(zoned.timestamp().as_second())
}

pub(super) fn run(args: &BackfillArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(
            Failure::new(USAGE, "--since is later than --until: no commit lies between").hint("swap the two")
        );
    }
    let repo = args.repo.open()?;
    let session = Session::of_repo(&repo, args.rules.clone())?;
    if !session.settings.enabled.value {
        return Err(Failure::new(USAGE, "gitops-agent is switched off in this repository")
            .hint("`git config --unset gitops-agent.enabled` switches it on"));
    }
    super::allocator::keep();
    Repo::tune_for_history();
    let mut revisions = args.revisions.clone();
    if args.all {
        revisions.push("--all".to_owned());
    }
    let resolve = || repo.resolve(&revisions, args.since, args.until);
    if args.dry_run {
        return dry_run(args, &repo, &session, &resolve()?, ui);
    }
    // The one waits for the disk and the other for the processor.
    let (commits, outbox) = std::thread::scope(|scope| {
        let opening = scope.spawn(|| session.outbox());
        (resolve(), opening.join())
    });
    let (commits, outbox) = (commits?, outbox.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
    let totals = store(args, &repo, &session, &commits, outbox, ui)?;
    let delivered = if args.no_flush { None } else { Some(flush::deliver(&session, Some(&repo), None, ui)?) };
    report(args, commits.len(), &totals, delivered.as_ref(), ui)?;
    if totals.failed > 0 {
        return Ok(ExitCode::from(PARTLY));
    }
    Ok(delivered.map_or(ExitCode::SUCCESS, |report| flush::exit_code(&report)))
}

/// What became of the commits.
#[derive(Default)]
struct Totals {
    known: usize,
    queued: Enqueued,
    failed: usize,
}

/// As many threads as were asked for, else one a core.
pub(super) fn jobs(asked: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or_else(cores, usize::from)
}

fn store(
    args: &BackfillArgs,
    repo: &Repo,
    session: &Session,
    commits: &[CommitId],
    mut outbox: Outbox,
    ui: &Ui,
) -> Result<Totals, Failure> {
    let rules = session.rules()?;
    let recorder = session.recorder(repo, &rules);
    let destination = &session.settings.destination.value;
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir()).to_owned();
    let now = Timestamp::now();
    outbox.register_repository(&place, &recorder.repository().id, now)?;
    if args.missing {
        unlearn(session, &mut outbox)?;
    }
    let known = outbox.known(&session.settings.tenant.value, destination, Some(&recorder.judgement()))?;
    // An older agent recorded without measuring: read once more, which queues nothing again.
    let measured = outbox.measured(&recorder.repository().id)?;
    let done = |id: &CommitId| known.contains(&id.hex()) && measured.contains(&id.hex());
    let wanted: Vec<CommitId> = commits.iter().filter(|id| !done(id)).copied().collect();
    let bar = ui.progress(wanted.len(), "recording");
    let mut totals = Totals { known: commits.len() - wanted.len(), ..Totals::default() };
    let mut batch = Batch::default();
    let (mut failure, mut left) = (None, wanted.len());
    each_record(args, &recorder, &wanted, now, |result| {
        bar.inc(1);
        left -= 1;
        let outcome = batch.take(result, left, &mut totals, ui).and_then(|full| {
            if full { batch.write(&mut outbox, session, &place, &mut totals, now) } else { Ok(()) }
        });
        outcome.map_err(|error| failure = Some(error)).is_ok()
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    batch.write(&mut outbox, session, &place, &mut totals, now)?;
    if session.settings.class.is_none() {
        recorder.inferred().keep(repo);
    }
    bar.finish_and_clear();
    Ok(totals)
}

/// Makes the outbox forget what it delivered and the store has not got any more: deleted, or lost with the
/// store itself.
fn unlearn(session: &Session, outbox: &mut Outbox) -> Result<(), Failure> {
    let settings = &session.settings;
    let tenant = &settings.tenant.value;
    let stored = block_on(session.store()?.keys(tenant, None, None))??;
    let ids: HashSet<String> = stored.value.into_iter().map(|key| key.id).collect();
    outbox.forget_delivered(tenant, &settings.destination.value, |id| !ids.contains(id))?;
    Ok(())
}

/// Records of one transaction at most: enough to make little of its syncs.
const BATCH: usize = 512;
/// Towards the end a transaction takes no more than are still to come, but so many at least: little is left to write
/// when the last commit has been read.
const LAST: usize = 64;

/// Records that go into the outbox in one transaction: one sync for many.
#[derive(Default)]
struct Batch {
    records: Vec<Recorded>,
    bytes: usize,
}

impl Batch {
    /// Takes a result, behind which so many are to come; whether it is time to write.
    fn take(
        &mut self,
        result: Result<Recorded, RecordError>,
        left: usize,
        totals: &mut Totals,
        ui: &Ui,
    ) -> Result<bool, Failure> {
        match result {
            Ok(made) => {
                self.bytes += made.json.len();
                self.records.push(made);
            }
            Err(error) => {
                totals.failed += 1;
                ui.note(format!("not recorded: {error}"));
            }
        }
        Ok(self.records.len() >= left.clamp(LAST, BATCH) || self.bytes >= 8 << 20)
    }

    fn write(
        &mut self,
        outbox: &mut Outbox,
        session: &Session,
        place: &std::path::Path,
        totals: &mut Totals,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let destination = &session.settings.destination.value;
        let entries: Vec<_> =
            self.records.iter().map(|made| hook::entry(made, session, destination, place)).collect();
        let queued = outbox.enqueue(&entries, now)?;
        if queued.added < entries.len() {
            // What is queued anew is measured before it is sent; what is not queued again, here.
            outbox.measure(self.records.iter().map(|made| made.json.as_slice()))?;
        }
        totals.queued.added += queued.added;
        totals.queued.replaced += queued.replaced;
        totals.queued.merged += queued.merged;
        totals.queued.already += queued.already;
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Makes the records of commits on all threads and hands each to `sink`, which ends it with `false`.
fn each_record(
    args: &BackfillArgs,
    recorder: &Recorder<'_>,
    commits: &[CommitId],
    now: Timestamp,
    sink: impl FnMut(Result<Recorded, RecordError>) -> bool,
) -> Result<(), CaptureError> {
    history::each_in_two(
        commits,
        jobs(args.jobs),
        || args.repo.open(),
        |reading, id| recorder.facts(reading, id),
        weight,
        |read| recorder.judge(read?, "backfill", Vec::new(), now),
        sink,
    )
}

/// About how many bytes what was read of a commit takes.
pub(super) fn weight(read: &Result<(CommitFacts, ClassOf), RecordError>) -> usize {
    read.as_ref().map_or(0, |(facts, _)| facts.weight())
}

fn dry_run(
    args: &BackfillArgs,
    repo: &Repo,
    session: &Session,
    commits: &[CommitId],
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    let rules = session.rules()?;
    let recorder = session.recorder(repo, &rules);
    let now = Timestamp::now();
    let (mut read, mut failed) = (0_usize, 0_usize);
    let mut failure = None;
    each_record(args, &recorder, commits, now, |result| {
        let printed = match result {
            Ok(made) => {
                read += 1;
                if args.json { ui.json(&made.record).map_err(Failure::from) } else { Ok(()) }
            }
            Err(error) => {
                failed += 1;
                ui.note(format!("not readable: {error}"));
                Ok(())
            }
        };
        printed.map_err(|error| failure = Some(error)).is_ok()
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if !args.json {
        ui.line(format!(
            "{} would be recorded, {failed} cannot be read; nothing was stored",
            ui::count(read, "commit")
        ))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(PARTLY) })
}

fn report(
    args: &BackfillArgs,
    commits: usize,
    totals: &Totals,
    delivered: Option<&flush::Report>,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let queued = &totals.queued;
    if args.json {
        ui.json(&json!({
            "schemaVersion": 1,
            "commits": commits,
            "known": totals.known,
            "added": queued.added,
            "replaced": queued.replaced,
            "already": queued.already + queued.merged,
            "failed": totals.failed,
            "delivery": delivered,
        }))?;
        return Ok(());
    }
    ui.line(format!(
        "{}: {} recorded now, {} judged anew, {} known already, {} unreadable",
        ui::count(commits, "commit"),
        queued.added,
        queued.replaced,
        totals.known + queued.already + queued.merged,
        totals.failed
    ))?;
    match delivered {
        Some(report) => flush::print(report, ui),
        None => Ok(ui.line("the records wait in the outbox; `gitops-agent flush` delivers them")?),
    }
}
