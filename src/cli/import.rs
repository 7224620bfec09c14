//! `import`: exported records into the store in force.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use futures::{Stream, StreamExt as _};
use gitops_agent::archive::{Gate, Line, Lines, Unfit};
use gitops_agent::delivery::{self, Arrival, Import, Imported, Patience, Told};
use gitops_agent::destination::Destination;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::failure::{DISK, ExitCode, Failure, PARTLY, USAGE};
use super::filter;
use super::session::{Session, block_on};
use super::shown;
use super::ui::{self, Ui};

/// Records on their way from the thread that reads to the one that sends.
const AHEAD: usize = 512;
/// Request units that a killed import may leave out of the day's charges.
const WRITTEN_DOWN: f64 = 2000.0;

/// Bring exported records into the store.
///
/// Each line is looked at as somebody else's input: what is no sound record of the tenant in force is not taken, and its
/// line is named on standard error. A record that is there already stays, unless the one that comes is the
/// later judgement of the two; so repeating an import, a killed one too, changes nothing. The time to live begins with the
/// import; a record whose time is over is not brought back.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all of it is in the store, 2 no such file, 3 some lines were not taken or the store went away
(the file has them all), 4 access denied by the store, 5 the local disk or database failed.

Examples:
  gitops-agent import clinic-a.ndjson
  gitops-agent import --dry-run clinic-a.ndjson
  gitops-agent import --from-tenant local before-we-had-an-account.ndjson
  zstd -dc q3.ndjson.zst | GITOPS_AGENT_STORE=local gitops-agent import -"
)]
pub(super) struct ImportArgs {
    /// The file, one record a line; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The tenant whose records the file holds and under which they are stored; the configured one unless given.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Take records of this tenant, and store them as the tenant's in force.
    #[arg(long, value_name = "T")]
    from_tenant: Option<String>,
    /// Begin with this line: what an import that ended early names.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Look at every line and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    schema_version: u32,
    tenant: String,
    /// Lines looked at.
    lines: u64,
    /// Lines that hold nothing that could be taken.
    unfit: u64,
    #[serde(flatten)]
    imported: Imported,
    error: Option<String>,
}

/// What the reading thread says.
enum Read {
    Record(Box<Arrival>),
    Unfit(u64, Unfit),
    Broken(std::io::Error),
}

pub(super) fn run(args: &ImportArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let session = Session::here(None)?;
    let settings = &session.settings;
    let tenant = filter::tenant(args.tenant.as_deref(), &session)?;
    let from = args.from_tenant.as_deref().map(|from| filter::tenant(Some(from), &session)).transpose()?;
    if args.tenant.is_none()
        && let Some(reason) = settings.hold()
    {
        return Err(
            Failure::new(USAGE, reason).hint("Cosmos DB takes records of a tenant that somebody named")
        );
    }
    let input = open(&args.file)?;
    let gate = Gate { tenant: tenant.clone(), from, now: Timestamp::now() };
    let from_line = args.from_line;
    let (sender, receiver) = mpsc::channel(AHEAD);
    // Reading and checking is half of the work, and a pipe may let us wait.
    std::thread::spawn(move || read(input, &gate, from_line, &sender));
    let counts = Counts::default();
    let records = arrivals(receiver, &counts);
    let came = if args.dry_run {
        block_on(records.for_each(|_| std::future::ready(())))?;
        Import { done: Imported::default(), error: None }
    } else {
        store(&session, records)?
    };
    counts.name_lines();
    if let Some(error) = counts.broken.take() {
        return Err(Failure::new(DISK, format!("{}: {error}", shown(&args.file)))
            .hint("what was read before is in the store; repeating the import changes nothing there"));
    }
    finish(args, tenant, &counts, came, ui)
}

/// Sends the records, within what is left of the day's budget, and keeps what it cost among the day's charges.
fn store(session: &Session, records: impl Stream<Item = Arrival>) -> Result<Import, Failure> {
    let destination = &session.settings.destination.value;
    let store = session.store()?;
    let mut patience = Patience::default();
    let mut outbox = None;
    // The local store charges nothing.
    if *destination != Destination::Local {
        let opened = session.outbox()?;
        if let Some(budget) = &session.settings.budget_ru {
            patience.budget = Some(opened.left_of(budget.value, destination, Timestamp::now())?);
        }
        outbox = Some(opened);
    }
    let (mut owed, mut failed) = (0.0, None);
    let mut charge = |owed: &mut f64, least: f64| {
        if *owed > least
            && let Some(outbox) = &mut outbox
        {
            failed =
                outbox.charge(destination, std::mem::take(owed), Timestamp::now()).err().or(failed.take());
        }
    };
    let mut tell = |told: Told<'_>| match told {
        Told::Refused(line, error) => ui::error(&format!("line {line}: {error}")),
        Told::Charged(units) => {
            owed += units;
            charge(&mut owed, WRITTEN_DOWN);
        }
    };
    let came = block_on(delivery::import(&*store, records, patience, &mut tell))?;
    charge(&mut owed, 0.0);
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(came),
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path)
        .and_then(|file| {
            if file.metadata()?.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
        })
        .map_err(|error| {
            Failure::new(USAGE, format!("{} cannot be read: {error}", shown(path)))
                .hint("give the file that `gitops-agent export --output FILE` wrote, or - for standard input")
        })?;
    Ok(Box::new(BufReader::with_capacity(128 * 1024, file)))
}

/// Reads and checks until the input ends or nobody takes what is read.
fn read(input: impl BufRead, gate: &Gate, from_line: u64, sender: &mpsc::Sender<Read>) {
    for line in Lines::new(input) {
        let said = match line {
            Ok(line) if line.number < from_line => continue,
            Ok(line) => checked(gate, &line),
            Err(error) => Read::Broken(error),
        };
        let last = matches!(said, Read::Broken(_));
        if sender.blocking_send(said).is_err() || last {
            return;
        }
    }
}

fn checked(gate: &Gate, line: &Line) -> Read {
    match gate.record(line) {
        Ok((key, document)) => Read::Record(Box::new(Arrival { line: line.number, key, document })),
        Err(unfit) => Read::Unfit(line.number, unfit),
    }
}

/// What the lines were.
#[derive(Default)]
struct Counts {
    lines: Cell<u64>,
    unfit: Cell<u64>,
    broken: Cell<Option<std::io::Error>>,
    /// First and last of the lines that were not taken for one reason, and the reason: a file of another tenant is one
    /// line on the terminal and not a million.
    run: RefCell<Option<(u64, u64, String)>>,
}

impl Counts {
    fn not_taken(&self, line: u64, why: String) {
        self.unfit.set(self.unfit.get() + 1);
        if let Some((_, last, reason)) = &mut *self.run.borrow_mut()
            && *reason == why
            && *last + 1 == line
        {
            *last = line;
            return;
        }
        self.name_lines();
        self.run.replace(Some((line, line, why)));
    }

    /// Names the lines that were not named yet.
    fn name_lines(&self) {
        match self.run.take() {
            Some((first, last, why)) if first == last => ui::error(&format!("line {first}: {why}")),
            Some((first, last, why)) => ui::error(&format!("lines {first} to {last}: {why}")),
            None => {}
        }
    }
}

/// The records among what is read; lines that are not taken are named.
fn arrivals(mut receiver: mpsc::Receiver<Read>, counts: &Counts) -> impl Stream<Item = Arrival> {
    let count = |which: &Cell<u64>| which.set(which.get() + 1);
    futures::stream::poll_fn(move |context| receiver.poll_recv(context)).filter_map(move |read| {
        std::future::ready(match read {
            Read::Record(arrival) => {
                count(&counts.lines);
                Some(*arrival)
            }
            Read::Unfit(line, unfit) => {
                count(&counts.lines);
                counts.not_taken(line, unfit.to_string());
                None
            }
            Read::Broken(error) => {
                counts.broken.set(Some(error));
                None
            }
        })
    })
}

fn finish(
    args: &ImportArgs,
    tenant: String,
    counts: &Counts,
    Import { done, error }: Import,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    let not_taken = counts.unfit.get() + done.refused;
    let (next, budget_spent) = (done.unanswered_from.map(|line| line.max(args.from_line)), done.budget_spent);
    if args.json {
        ui.json(&Report {
            schema_version: 1,
            tenant,
            lines: counts.lines.get(),
            unfit: counts.unfit.get(),
            imported: done,
            error: error.as_ref().map(|error| error.message.clone()),
        })?;
    } else if args.dry_run {
        let fit = counts.lines.get() - not_taken;
        ui.line(format!("{fit} can be imported, {not_taken} cannot; nothing was stored"))?;
    } else {
        let Imported { created, replaced, merged, already, .. } = done;
        let taken = created + replaced + merged + already;
        ui.line(format!(
            "{taken} are in the store ({created} new, {replaced} replaced an earlier judgement, {merged} brought links, {already} were there already); {not_taken} not taken"
        ))?;
    }
    let go_on =
        next.map(|line| format!("go on with --from-line {line}; what is there already stays as it is"));
    if let Some(error) = error {
        let mut failure = Failure::from(error);
        if let Some(go_on) = go_on {
            failure = failure.and_hint(go_on);
        }
        return Err(failure);
    }
    if budget_spent {
        let message = "this day's store.budget_ru is spent: the rest waits for tomorrow (UTC)";
        return Err(Failure::new(PARTLY, message).hint(go_on.unwrap_or_default()));
    }
    Ok(ExitCode::from(if not_taken > 0 { PARTLY } else { 0 }))
}
