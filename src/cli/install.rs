//! `install` and `uninstall`.

use std::path::PathBuf;

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::inferred::Inferred;
use gitops_agent::install::{self, Git, Plan, Target};
use gitops_agent::{outbox, reconcile, recorder, rules};
use jiff::Timestamp;

use super::doctor::SET_CLASS;
use super::failure::{DISK, ExitCode, Failure};
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
        infer(args, ui);
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

/// Says what kind of repository this seems to be, and asks to confirm it: the class decides what is tagged. Best
/// effort: wrong settings are the hook's and `doctor`'s to tell, and the hooks are in.
fn infer(args: &InstallArgs, ui: &Ui) {
    let look = || -> Result<(), Failure> {
        let repo = Repo::open(&args.repo)?;
        let Some(tip) = repo.head()? else { return Ok(()) };
        let carried = repo.carried(&tip)?;
        if Session::survey(Some(&repo))?.0.settings.class.is_some()
            || carried.as_deref().and_then(rules::carried_class).is_some()
        {
            return Ok(());
        }
        let inferred = Inferred::default();
        inferred.look_again(&repo);
        match inferred.class(&repo, &tip) {
            Some(found) => ui.note(format!(
                "note: the class of this repository seems to be {} ({}); confirm it with `git config \
                 gitops-agent.class {}`",
                found.class,
                found.reasons.join(", "),
                found.class
            )),
            None => ui.note(format!("note: the repository's class is unknown; set it with {SET_CLASS}")),
        }
        if !args.dry_run {
            inferred.keep(&repo);
        }
        Ok(())
    };
    // What cannot be looked at is told by others.
    let _ = look();
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
