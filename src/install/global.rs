//! What covers every repository of a user, and hooks that are named in the configuration.
//!
//! Git 2.54 and later runs hooks named in the configuration beside those in the hooks folder: then
//! five small sections are all. Older versions know one way to reach every repository, a global
//! `core.hooksPath`, and that hides each repository's own hooks: so it points to a folder of ours in
//! which *every* hook that Git knows hands the call on to the repository's own.
//!
//! What that costs: one shell for each hook that Git looks for, 7.5 ms on a commit of 10.4 ms, half of it
//! for `reference-transaction` and `post-index-change`, which a commit fires several times. Leaving
//! these two out would switch them off, without a word, where a repository has them (git-branchless).
//!
//! A repository with a `core.hooksPath` of its own (Husky) is out of reach of the second way.

use std::fs;
use std::path::{Path, PathBuf};

use super::InstallError;
use super::files::{self, Found};
use super::git::{Git, Scope, to_bytes, to_path};
use super::plan::{Plan, Step};
use super::shim::{self, ALL_HOOKS, First, HOOKS, OTHER_HOOKS};

const HOOKS_PATH: &str = "core.hooksPath";

/// Marks the folder as ours; its second line is the `core.hooksPath` from before, if there was one.
const MARKER: &str = ".gitops-agent-global";
const MARKER_TEXT: &str = "The hooks of `gitops-agent install --global`; before that, core.hooksPath was:\n";

/// Whether this hooks folder is one that `install --global` made.
pub(super) fn is_ours(folder: &Path) -> bool {
    folder.join(MARKER).is_file()
}

/// Whether the configuration names our hooks: in this scope, or in any.
pub(super) fn is_configured(git: &Git, scope: Option<Scope>) -> Result<bool, InstallError> {
    Ok(!git.config_entries(scope, "hook.gitops-agent-")?.is_empty())
}

/// How the command of a configured hook begins; the quoted program follows.
const COMMAND: &str = "gitops_agent() { test ! -x ";

/// The program that a configured hook calls; `None` where somebody changed the command.
pub(super) fn program_of(command: &str) -> Option<PathBuf> {
    shim::quoted_prefix(command.strip_prefix(COMMAND)?.as_bytes()).map(|path| to_path(&path))
}

fn section(hook: &str) -> String {
    format!("hook.gitops-agent-{hook}")
}

/// Plans hooks that are named in the configuration, one section a hook: Git does not tell a
/// command which hook it is.
pub(super) fn plan_configured(
    git: &Git,
    scope: Scope,
    hooks: &[&str],
    exe: &Path,
    plan: &mut Plan,
) -> Result<(), InstallError> {
    let entries = git.config_entries(Some(scope), "hook.gitops-agent-")?;
    let program = String::from_utf8(shim::quote(&to_bytes(exe)))
        .map_err(|_| InstallError::NotUtf8 { path: exe.to_owned() })?;
    for hook in hooks {
        // Git appends "$@". Its exit code counts in pre-push, and a program that is gone must be silence.
        let command = format!("{COMMAND}{program} || {program} hook {hook} \"$@\" || :; }}; gitops_agent");
        // The command goes first: an event without one makes every Git command fail that runs hooks.
        for (name, value) in [("command", command), ("event", (*hook).to_owned())] {
            let key = format!("{}.{name}", section(hook));
            if !entries.iter().any(|(other, set)| *other == key && *set == value) {
                plan.steps.push(Step::SetConfig { scope, key, value });
            }
        }
    }
    Ok(())
}

/// Plans the removal of [`plan_configured`], whichever version of Git is here now.
pub(super) fn plan_configured_out(git: &Git, scope: Scope, plan: &mut Plan) -> Result<(), InstallError> {
    let entries = git.config_entries(Some(scope), "hook.gitops-agent-")?;
    for hook in ALL_HOOKS {
        let section = section(hook);
        if entries.iter().any(|(key, _)| key.strip_prefix(&section).is_some_and(|rest| rest.starts_with('.')))
        {
            plan.steps.push(Step::RemoveSection { scope, section });
        }
    }
    Ok(())
}

/// Plans `install --global`; `folder` is ours to fill where Git is older than 2.54.
pub(super) fn plan_install(
    git: &Git,
    folder: &Path,
    exe: &Path,
    plan: &mut Plan,
) -> Result<(), InstallError> {
    let current = git.config(Some(Scope::Global), true, HOOKS_PATH)?.map(|value| to_path(&value));
    let ours = current.as_deref().is_some_and(|path| same_folder(path, folder));
    if !ours && git.runs_configured_hooks()? {
        return plan_configured(git, Scope::Global, &HOOKS, exe, plan);
    }
    match &current {
        Some(path) if !ours && path.is_absolute() => {
            plan.notes.push(format!(
                "your global core.hooksPath stays {}; the hooks go into that folder",
                path.display()
            ));
            files::plan_into(path, files::Way { exe, hooks: &HOOKS, links: false, hide: false }, plan)?;
        }
        _ => plan_redirect(git, folder, exe, ours, plan)?,
    }
    plan.notes.push(
        "repositories with a core.hooksPath of their own (Husky sets one) are not covered by this: run \
         `gitops-agent install` in each of them; `gitops-agent status` lists them"
            .to_owned(),
    );
    Ok(())
}

/// Points the global `core.hooksPath` to a folder of hooks that hand every call on.
fn plan_redirect(
    git: &Git,
    folder: &Path,
    exe: &Path,
    ours: bool,
    plan: &mut Plan,
) -> Result<(), InstallError> {
    let value = folder.to_str().ok_or_else(|| InstallError::NotUtf8 { path: folder.to_owned() })?;
    let raw = if ours {
        previous(folder)
    } else {
        git.config(Some(Scope::Global), false, HOOKS_PATH)?
            .map(|raw| String::from_utf8_lossy(&raw).into_owned())
    };
    // Here the user's value is empty, relative or ours; the machine's is what Git would fall back to.
    let hidden = match &raw {
        Some(raw) => Some(PathBuf::from(raw)),
        None => git.config(Some(Scope::System), true, HOOKS_PATH)?.map(|value| to_path(&value)),
    };
    let first = hidden.as_deref().filter(|path| !path.as_os_str().is_empty()).map_or(First::Own, First::In);

    let mut missing: Vec<_> =
        folder.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
    missing.reverse();
    plan.steps.extend(missing.into_iter().map(|path| Step::CreateFolder(path.to_owned())));
    let marker = format!("{MARKER_TEXT}{}", raw.map(|raw| format!("{raw}\n")).unwrap_or_default());
    plan_write(folder.join(MARKER), marker.into_bytes(), false, plan);
    for name in OTHER_HOOKS {
        plan_hook(folder.join(name), shim::pass_on(first), plan)?;
    }
    for name in HOOKS {
        plan_hook(folder.join(name), shim::hook(name, exe, first), plan)?;
    }
    if !ours {
        plan.steps.push(Step::SetConfig {
            scope: Scope::Global,
            key: HOOKS_PATH.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(())
}

fn plan_hook(at: PathBuf, content: Vec<u8>, plan: &mut Plan) -> Result<(), InstallError> {
    match files::inspect(&at)? {
        Found::Nothing | Found::Script { .. } => plan_write(at, content, true, plan),
        Found::Link(_) | Found::Changed { .. } | Found::Foreign { .. } => plan.notes.push(format!(
            "{} was changed after its installation and is left alone; delete it and run `gitops-agent install \
             --global` again to have it written anew",
            at.display()
        )),
    }
    Ok(())
}

fn plan_write(at: PathBuf, content: Vec<u8>, executable: bool, plan: &mut Plan) {
    let same = fs::read(&at).is_ok_and(|now| now == content) && (!executable || files::is_active(&at));
    if !same {
        plan.steps.push(Step::Write { at, content, executable });
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|real| fs::canonicalize(other).is_ok_and(|also| also == real))
}

fn previous(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(MARKER)).ok()?;
    text.strip_prefix(MARKER_TEXT)?.lines().next().map(str::to_owned)
}

/// Plans `uninstall --global`: the configuration first, since a `core.hooksPath` to an empty folder
/// would switch every hook off.
pub(super) fn plan_uninstall(git: &Git, folder: &Path, plan: &mut Plan) -> Result<(), InstallError> {
    plan_configured_out(git, Scope::Global, plan)?;
    let current = git.config(Some(Scope::Global), true, HOOKS_PATH)?.map(|value| to_path(&value));
    if current.as_deref().is_some_and(|path| same_folder(path, folder)) {
        let key = HOOKS_PATH.to_owned();
        plan.steps.push(match previous(folder) {
            Some(value) => Step::SetConfig { scope: Scope::Global, key, value },
            None => Step::UnsetConfig { scope: Scope::Global, key },
        });
    } else if let Some(path) = current.filter(|path| path.is_absolute()) {
        files::plan_out_of(&path, plan)?;
    }
    if plan.steps.iter().any(|step| matches!(step, Step::UnsetConfig { .. } | Step::RemoveSection { .. }))
        && let Some(file) = git.config_file(Scope::Global)?
    {
        plan.steps.push(Step::RemoveIfEmpty(file));
    }
    if is_ours(folder) {
        plan_folder_out(folder, plan)?;
    }
    Ok(())
}

fn plan_folder_out(folder: &Path, plan: &mut Plan) -> Result<(), InstallError> {
    let mut stays = false;
    for entry in files::entries(folder)? {
        let marker = entry.file_name().is_some_and(|name| name == MARKER);
        if marker || matches!(files::inspect(&entry), Ok(Found::Script { .. })) {
            plan.steps.push(Step::Remove(entry));
        } else {
            stays = true;
            plan.notes.push(format!("{} is not as it was installed and stays", entry.display()));
        }
    }
    if !stays {
        plan.steps.push(Step::RemoveFolder(folder.to_owned()));
    }
    Ok(())
}
