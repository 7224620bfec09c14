//! The background process that hooks start: delivers what is due and ends. It has no terminal; what it has
//! to say it writes into the outbox, where `status` finds it.

use std::process::ExitCode;
use std::time::Duration;

use gitops_agent::delivery::{Options, WorkerLock};
use gitops_agent::detach;

use super::failure::Failure;
use super::flush;
use super::reconcile::Pace;
use super::session::Session;
use super::ui::Ui;

/// The word that starts it; no command for people.
pub(super) const NAME: &str = "worker";

/// A worker that has not finished by then leaves the rest to the next one: no process of ours stays for
/// good on a developer's machine.
const LIFE: Duration = Duration::from_secs(600);

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
    let Some(lock) = WorkerLock::adopt(session.paths()?.data(), given)? else { return Ok(()) };
    let mut outbox = session.outbox()?;
    let options = Options { deadline: Some(LIFE), ..Options::default() };
    flush::hand_over(&session, lock, &mut outbox, None, (options, Pace::Background), &Ui::new(true)).map(drop)
}
