//! The background process that hooks start: delivers what is due, stays for a while where the store is away,
//! and ends. It has no terminal; what it has to say it writes into the outbox, where `status` finds it.

use std::time::{Duration, Instant};

use gitops_agent::delivery::{Options, WorkerLock};
use gitops_agent::detach;
use gitops_agent::outbox::{FILE_NAME, Outbox};
use jiff::Timestamp;

use super::failure::{ExitCode, Failure};
use super::flush;
use super::reconcile::Pace;
use super::session::Session;
use super::ui::Ui;

/// The word that starts it; no command for people.
pub(super) const NAME: &str = "worker";

/// A delivery that has not finished by then leaves the rest to the next one.
const LIFE: Duration = Duration::from_secs(600);
/// How long a worker stays for a store that is away. No process of ours stays for good on a developer's machine;
/// after this the next commit, or `flush`, tries again.
const STAY: Duration = Duration::from_secs(3600);
/// The longest sleep at a stretch: a laptop that was closed, or a home that is gone, is noticed after it.
const NAP: Duration = Duration::from_secs(20);

pub(super) fn run() -> ExitCode {
    match deliver() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.code(),
    }
}

fn deliver() -> Result<(), Failure> {
    detach::become_daemon()?;
    // The hook that started us took the lock and handed it over as standard input.
    let given = detach::take_stdin()?;
    let session = Session::of_user()?;
    let data = session.paths()?.data();
    let Some(lock) = WorkerLock::adopt(data, given)? else { return Ok(()) };
    let mut outbox = session.outbox()?;
    work(&session, lock, &mut outbox)?;
    let Some(_place) = WorkerLock::to_wait(data)? else { return Ok(()) };
    let end = Instant::now() + STAY;
    while wait(&outbox, end)? {
        // Somebody else is at work: look again when the next attempt is due.
        let Some(lock) = WorkerLock::try_acquire(data)? else {
            std::thread::sleep(Duration::from_secs(1));
            continue;
        };
        // The person that was waited for may have changed a setting.
        work(&Session::of_user()?, lock, &mut outbox)?;
    }
    Ok(())
}

fn work(session: &Session, lock: WorkerLock, outbox: &mut Outbox) -> Result<(), Failure> {
    let options = Options { deadline: Some(LIFE), ..Options::default() };
    flush::hand_over(session, lock, outbox, None, (options, Pace::Background), &Ui::new(true)).map(drop)
}

/// Sleeps until the next attempt; false where nothing waits, the outbox is gone, or it would take too long.
fn wait(outbox: &Outbox, end: Instant) -> Result<bool, Failure> {
    loop {
        if Instant::now() > end || !outbox.dir().join(FILE_NAME).exists() {
            return Ok(false);
        }
        let Some(next) = outbox.next_attempt()? else { return Ok(false) };
        let left = Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default();
        if left.is_zero() {
            return Ok(true);
        }
        if Instant::now() + left > end {
            return Ok(false);
        }
        std::thread::sleep(left.min(NAP));
    }
}
