//! `install` and `uninstall`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::install::{self, Git, Plan, Target};
use gitops_agent::{outbox, reconcile, recorder, rules};
use jiff::Timestamp;

use super::doctor::SET_CLASS;
use super::failure::{DISK, Failure};
use super::hook;
use super::session::Session;
use super::ui::Ui;

pub(super) const INSTALL_EXAMPLES: &str = "Examples:
  gitops-agent install             this repository, with all its worktrees
  gitops-agent install --global    every repository of the user
  gitops-agent install --dry-run   print each change, make none";

pub(super) const UNINSTALL_EXAMPLES: &str = "Examples:
  gitops-agent uninstall             what `install` put into this repository
  gitops-agent uninstall --global    what `install --global` did
  gitops-agent uninstall --dry-run   print each change, make none

Hooks that were there before come back as they were; records and settings stay.";

/// Where the hooks are.
#[derive(clap::Args, Debug)]
pub(super) struct InstallArgs {
    /// The repository; the current folder unless given.
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    repo: PathBuf,
    /// For every repository of the user.
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
    if !args.global {
        if !args.dry_run {
            remember(args)?;
        }
        class_hint(&args.repo, ui);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how to set the class where nobody has: rules for one kind of software apply to that kind only.
fn class_hint(folder: &Path, ui: &Ui) {
    // Best effort: wrong settings are the hook's and `doctor`'s to tell, and the hooks are in.
    let unknown = || -> Result<bool, Failure> {
        let repo = Repo::open(folder)?;
        let set = Session::survey(Some(&repo))?.0.settings.class.is_some();
        let carried = repo.head()?.map(|head| repo.carried(&head)).transpose()?.flatten();
        Ok(!set && carried.as_deref().and_then(rules::carried_class).is_none())
    };
    if unknown().unwrap_or(false) {
        ui.note(format!("note: the repository's class is unknown; set it with {SET_CLASS}"));
    }
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
