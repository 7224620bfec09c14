//! `install` and `uninstall`.

use std::path::PathBuf;
use std::process::ExitCode;

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::install::{self, Git, Plan, Target};
use gitops_agent::{outbox, reconcile, recorder};
use jiff::Timestamp;

use super::failure::{DISK, Failure};
use super::hook;
use super::session::Session;
use super::ui::Ui;

/// Where the hooks go.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  gitops-agent install\n  gitops-agent install --global\n  gitops-agent install --dry-run"
)]
pub(super) struct InstallArgs {
    /// The repository; the current folder unless given.
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    repo: PathBuf,
    /// Every repository of the user.
    #[arg(long, conflicts_with = "repo")]
    global: bool,
    /// Print each change and make none.
    #[arg(long)]
    dry_run: bool,
}

impl InstallArgs {
    fn target(&self) -> Result<Target, Failure> {
        if !self.global {
            return Ok(Target::Repository);
        }
        // What Git's own configuration points to must not move with the settings of one shell.
        Ok(Target::Global { folder: Session::of_user()?.paths()?.data().join("hooks") })
    }

    fn git(&self) -> Result<Git, Failure> {
        if !self.global {
            // Names a folder that is no repository in our words rather than in Git's.
            Repo::open(&self.repo)?;
        }
        Ok(Git::new(&self.repo))
    }
}

pub(super) fn install(args: &InstallArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let git = args.git()?;
    let exe = std::env::current_exe()
        .map_err(|error| Failure::new(DISK, format!("the path of this program is unknown: {error}")))?;
    let plan = install::plan_install(&git, &args.target()?, &exe)?;
    carry_out(args, &git, &plan, "installed already", ui)?;
    if !args.dry_run && !args.global {
        remember(args)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn uninstall(args: &InstallArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let git = args.git()?;
    let plan = install::plan_uninstall(&git, &args.target()?)?;
    carry_out(args, &git, &plan, "nothing of gitops-agent is installed here", ui)?;
    if !args.dry_run {
        forget(args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends reconciliation. Records that still wait stay in the outbox.
fn forget(args: &InstallArgs) -> Result<(), Failure> {
    let repo = if args.global { None } else { Some(Repo::open(&args.repo)?) };
    if let Some(repo) = &repo {
        hook::forget(repo);
    }
    let session = Session::of_user()?;
    if !session.paths()?.data().join(outbox::FILE_NAME).exists() {
        return Ok(());
    }
    let mut outbox = session.outbox()?;
    Ok(outbox.untrack(repo.as_ref().map(|repo| repo.common_dir()), Timestamp::now())?)
}

fn carry_out(args: &InstallArgs, git: &Git, plan: &Plan, nothing: &str, ui: &mut Ui) -> Result<(), Failure> {
    if !args.dry_run {
        install::apply(plan, git)?;
    }
    if plan.steps.is_empty() {
        ui.line(nothing)?;
    }
    for step in &plan.steps {
        ui.line(step.to_string())?;
    }
    for note in &plan.notes {
        ui.note(format!("note: {note}"));
    }
    Ok(())
}

/// Makes the repository known, so that `status` shows it before its first commit, and ends its history here:
/// what comes now is reconciled.
fn remember(args: &InstallArgs) -> Result<(), Failure> {
    let repo = match Repo::open(&args.repo) {
        Ok(repo) => repo,
        Err(CaptureError::NotARepository { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut outbox = Session::of_user()?.outbox()?;
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
    let id = recorder::repository(&repo, || None).id;
    let now = Timestamp::now();
    outbox.register_repository(place, &id, now)?;
    Ok(reconcile::begin(&mut outbox, &repo, now)?)
}
