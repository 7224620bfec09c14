//! Hook files in one hooks folder: putting ours in, and everything back as it was.
//!
//! A hook that was there is moved, as it is, into a folder beside the hooks folder, and our script
//! calls it there. Not a new name in the same folder: hooks of Husky and overcommit find out from
//! their own file name which hook they are, and from their folder where their helpers lie. So the
//! second folder has the same names in it, helpers included, as links to the real ones.
//!
//! ```text
//! .git/hooks/post-commit                          ours
//! .git/hooks/helper                               theirs, untouched
//! .git/hooks.before-gitops-agent/post-commit      theirs, moved
//! .git/hooks.before-gitops-agent/helper           a link to ../hooks/helper
//! ```
//!
//! Other managers do the same to us: pre-commit and prek rename what they find to `NAME.legacy` and go on
//! calling it, which is as good as before; lefthook renames it to `NAME.old` and calls it no more.
//!
//! The moved files are the only state: a hook is theirs exactly where it lies in that folder as
//! anything but such a link.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::git::to_bytes;
use super::plan::{Plan, Step};
use super::shim::{self, ALL_HOOKS, First};
use super::{InstallError, io_error};

/// Lies in a hooks folder that an installation made, and says how many folders above it are ours too.
const CREATED: &str = ".created-by-gitops-agent";

/// What others rename a hook to when they take its place.
const RENAMED: [&str; 2] = ["legacy", "old"];

/// What is at a hook's path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A link of ours, to this program.
    Link(PathBuf),
    /// A script of ours, unchanged.
    Script { agent: PathBuf, text: Vec<u8> },
    /// A script of ours that somebody changed since; it is theirs now.
    Changed { agent: PathBuf },
    /// Somebody else's, and whether Git runs it: what is not executable it ignores.
    Foreign { active: bool },
}

/// Looks at one hook's path.
pub(super) fn inspect(path: &Path) -> Result<Found, InstallError> {
    let data = match path.symlink_metadata() {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    if data.is_symlink() {
        let target = fs::read_link(path).map_err(io_error("read", path))?;
        return Ok(if is_agent(&target) {
            Found::Link(target)
        } else {
            Found::Foreign { active: is_active(path) }
        });
    }
    if !data.is_file() {
        return Err(InstallError::NotAFile { path: path.to_owned() });
    }
    if data.len() > shim::LONGEST {
        return Ok(Found::Foreign { active: is_active(path) });
    }
    let text = fs::read(path).map_err(io_error("read", path))?;
    Ok(match shim::recognise(&text) {
        None => Found::Foreign { active: is_active(path) },
        Some(shim) if shim.intact => Found::Script { agent: shim.agent, text },
        Some(shim) => Found::Changed { agent: shim.agent },
    })
}

/// Whether a link to this program is a link of ours. The name decides, since the path changes with
/// each way of installing; a program under another name gets the script.
pub(super) fn is_agent(program: &Path) -> bool {
    program.file_stem().is_some_and(|stem| stem == "gitops-agent")
}

/// Whether Git would run this file.
pub(super) fn is_active(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && is_executable(&data))
}

#[cfg(unix)]
fn is_executable(data: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    data.permissions().mode() & 0o111 != 0
}

/// Git for Windows takes every file for executable that begins like a script.
#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    true
}

/// The folder for hooks that were there before.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().map(OsString::from).unwrap_or_default();
    name.push(".before-gitops-agent");
    folder.with_file_name(name)
}

/// How hooks are put into a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    /// The program.
    pub(super) exe: &'a Path,
    /// Which hooks.
    pub(super) hooks: &'a [&'static str],
    /// Links to the program are fine here. Not in a folder that a tool or a team keeps: Husky writes
    /// its files anew on each `npm install`, and would write through the link.
    pub(super) links: bool,
    /// Git tracks nothing in the folder, but might list what appears beside it.
    pub(super) hide: bool,
}

/// One hook's path, and what is to come there.
struct Slot {
    name: &'static str,
    at: PathBuf,
    found: Found,
    /// Whether a hook of theirs is to be called.
    chained: bool,
    /// Whether that one is pre-commit's or prek's.
    managers: bool,
}

/// Plans the hooks of one folder.
pub(super) fn plan_into(folder: &Path, way: Way<'_>, plan: &mut Plan) -> Result<(), InstallError> {
    let folder = &plan_folder(folder, plan)?;
    let kept_folder = beside(folder);
    let mut made = kept_folder.is_dir();
    let mut restored = Vec::new();
    let mut slots = Vec::new();
    for &name in way.hooks {
        let (at, kept) = (folder.join(name), kept_folder.join(name));
        let found = inspect(&at)?;
        if legacy_program(&at).is_some_and(|program| program == way.exe) {
            continue;
        }
        let (chained, managers) = match found {
            Found::Foreign { active } => {
                if !made {
                    plan.steps.push(Step::CreateFolder(kept_folder.clone()));
                    made = true;
                }
                restored.extend(plan_keep(folder, &at, &kept, plan));
                (active, is_managers(&at))
            }
            _ => (is_active(&kept) && !is_helper(folder, &kept), is_managers(&kept)),
        };
        slots.push(Slot { name, at, found, chained, managers });
    }
    if slots.iter().any(|slot| slot.chained) {
        plan_helpers(folder, &kept_folder, way, &restored, plan)?;
    }
    let kept_name = to_bytes(Path::new(kept_folder.file_name().unwrap_or_default()));
    for slot in slots {
        plan_hook(slot, way, &kept_name, plan);
    }
    Ok(())
}

/// Moves a hook of theirs into the folder for such. Returns where one from an earlier installation goes, if it
/// goes back into the hooks folder.
fn plan_keep(folder: &Path, at: &Path, kept: &Path, plan: &mut Plan) -> Option<PathBuf> {
    let has_kept = kept.symlink_metadata().is_ok() && !is_helper(folder, kept);
    let renamed = plan_renamed(at, has_kept.then_some(kept), plan);
    let in_the_way = kept.symlink_metadata().is_ok() && renamed.is_none();
    if in_the_way && (is_helper(folder, kept) || same_file(at, kept)) {
        plan.steps.push(Step::Remove(kept.to_owned()));
    } else if in_the_way {
        let old = free_name(kept);
        plan.notes.push(format!(
            "{} was replaced since the last installation; the hook from before lies in {}",
            at.display(),
            old.display()
        ));
        plan.steps.push(Step::Move { from: kept.to_owned(), to: old });
    }
    plan.steps.push(Step::Move { from: at.to_owned(), to: kept.to_owned() });
    renamed
}

fn plan_hook(slot: Slot, way: Way<'_>, kept_name: &[u8], plan: &mut Plan) {
    let Slot { name, at, found, chained, managers } = slot;
    if matches!(found, Found::Changed { .. }) {
        plan.notes.push(format!(
            "{} was changed after its installation and is left alone; to have it written anew, delete it and run \
             `gitops-agent install` again",
            at.display()
        ));
        return;
    }
    // pre-push is the one hook whose failure counts, and a program that cannot start fails.
    if way.links && !chained && name != "pre-push" && cfg!(unix) && is_agent(way.exe) {
        if found != Found::Link(way.exe.to_owned()) {
            plan.steps.push(Step::Link { at, to: way.exe.to_owned() });
        }
        return;
    }
    let first = match (chained, managers) {
        (true, true) => First::BesideUnlessLegacy(kept_name),
        (true, false) => First::Beside(kept_name),
        (false, _) => First::Nothing,
    };
    let content = shim::hook(name, way.exe, first);
    let same = matches!(&found, Found::Script { text, .. } if *text == content) && is_active(&at);
    if !same {
        plan.steps.push(Step::Write { at, content, executable: true });
    }
}

/// Plans the folder itself and returns its real path, so that "beside" is beside the folder and not
/// beside a link to it.
fn plan_folder(folder: &Path, plan: &mut Plan) -> Result<PathBuf, InstallError> {
    if let Ok(real) = fs::canonicalize(folder) {
        return if real.is_dir() {
            Ok(real)
        } else {
            Err(InstallError::NotAFolder { path: folder.to_owned() })
        };
    }
    let mut missing = Vec::new();
    let mut there = folder;
    while there.symlink_metadata().is_err() {
        missing.push(there.to_owned());
        there = there.parent().ok_or_else(|| InstallError::NotAFolder { path: folder.to_owned() })?;
    }
    if !there.is_dir() {
        return Err(InstallError::NotAFolder { path: there.to_owned() });
    }
    let above = missing.len() - 1;
    plan.steps.extend(missing.into_iter().rev().map(Step::CreateFolder));
    let content = format!(
        "{above}\nThis folder, and so many above it, were made by `gitops-agent install`;\n\
         `gitops-agent uninstall` removes them where nothing else is in them.\n"
    );
    plan.steps.push(Step::Write {
        at: folder.join(CREATED),
        content: content.into_bytes(),
        executable: false,
    });
    Ok(folder.to_owned())
}

/// Links everything else of the hooks folder into the folder of the moved hooks.
fn plan_helpers(
    folder: &Path,
    kept: &Path,
    way: Way<'_>,
    restored: &[PathBuf],
    plan: &mut Plan,
) -> Result<(), InstallError> {
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default();
        let at = kept.join(name);
        let ours = way.hooks.iter().any(|hook| name == *hook)
            || name == CREATED
            || (way.hide && name == ".gitignore");
        // A hook of ours under another name is about to go, unless theirs takes that name.
        let goes = !restored.contains(&entry)
            && matches!(inspect(&entry), Ok(Found::Link(_) | Found::Script { .. }));
        let ours = ours || goes;
        if !ours && at.symlink_metadata().is_err() {
            plan.steps.push(Step::Link { at, to: helper_target(folder, &entry) });
        }
    }
    let ignore = kept.join(".gitignore");
    if way.hide && ignore.symlink_metadata().is_err() {
        plan.steps.push(Step::Write { at: ignore, content: b"*\n".to_vec(), executable: false });
    }
    Ok(())
}

fn helper_target(folder: &Path, entry: &Path) -> PathBuf {
    let mut target = PathBuf::from("..");
    target.push(folder.file_name().unwrap_or_default());
    target.push(entry.file_name().unwrap_or_default());
    target
}

/// Whether this entry of the folder of moved hooks is such a link.
fn is_helper(folder: &Path, entry: &Path) -> bool {
    fs::read_link(entry).is_ok_and(|target| target == helper_target(folder, entry))
}

/// The program that our hook calls where pre-commit or prek has taken its place and goes on calling it.
pub(super) fn legacy_program(at: &Path) -> Option<PathBuf> {
    if !is_managers(at) || !is_active(at) {
        return None;
    }
    let renamed = at.with_extension(RENAMED[0]);
    match inspect(&renamed) {
        Ok(Found::Link(program)) => Some(program),
        Ok(Found::Script { agent, .. }) if is_active(&renamed) => Some(agent),
        _ => None,
    }
}

/// Whether pre-commit or prek wrote this hook.
fn is_managers(hook: &Path) -> bool {
    let small = hook.metadata().is_ok_and(|data| data.is_file() && data.len() <= shim::LONGEST);
    small
        && fs::read(hook).is_ok_and(|text| {
            [&b"# File generated by pre-commit"[..], b"# File generated by prek"]
                .iter()
                .any(|mark| memchr::memmem::find(&text, mark).is_some())
        })
}

/// Takes away a hook of ours that another manager renamed when it took the place `at`. The hook that ours
/// called, `kept`, gets that name, as it would have without us: then this is returned.
fn plan_renamed(at: &Path, kept: Option<&Path>, plan: &mut Plan) -> Option<PathBuf> {
    for suffix in RENAMED {
        let renamed = at.with_extension(suffix);
        if !matches!(inspect(&renamed), Ok(Found::Link(_) | Found::Script { .. })) {
            continue;
        }
        plan.steps.push(Step::Remove(renamed.clone()));
        // A manager's own hook from before is nothing that it would have renamed.
        if let Some(kept) = kept.filter(|kept| !is_managers(kept) && !same_file(kept, at)) {
            plan.steps.push(Step::Move { from: kept.to_owned(), to: renamed.clone() });
            return Some(renamed);
        }
    }
    None
}

/// Whether two files have the same bytes and mode, or two links the same target.
fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::read_link(one), fs::read_link(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), Err(_)) => {
            let mode = |path: &Path| path.metadata().map(|data| data.permissions()).ok();
            mode(one) == mode(other)
                && fs::read(one).ok().zip(fs::read(other).ok()).is_some_and(|(a, b)| a == b)
        }
        _ => false,
    }
}

/// Plans the way back for one folder. What is not ours, or was changed since, stays, with a note.
pub(super) fn plan_out_of(folder: &Path, plan: &mut Plan) -> Result<(), InstallError> {
    let Ok(folder) = fs::canonicalize(folder) else { return Ok(()) };
    if !folder.is_dir() {
        return Ok(());
    }
    let kept_folder = beside(&folder);
    let mut gone = Vec::new();
    let mut back = Vec::new();
    for name in ALL_HOOKS {
        let (at, kept) = (folder.join(name), kept_folder.join(name));
        let has_kept = kept.symlink_metadata().is_ok() && !is_helper(&folder, &kept);
        match inspect(&at) {
            Ok(Found::Link(_) | Found::Script { .. }) => {
                plan.steps.push(Step::Remove(at.clone()));
                gone.push(at.clone());
            }
            Ok(Found::Nothing) => {}
            Ok(Found::Changed { .. }) => {
                plan.notes.push(format!("{} was changed after its installation and stays", at.display()));
                if has_kept {
                    plan.notes.push(format!("the hook that it calls stays in {}", kept.display()));
                }
                continue;
            }
            Ok(Found::Foreign { .. }) | Err(InstallError::NotAFile { .. }) => {
                if plan_renamed(&at, has_kept.then_some(&*kept), plan).is_some() {
                    back.push(kept);
                } else if has_kept && same_file(&at, &kept) {
                    plan.steps.push(Step::Remove(kept.clone()));
                    back.push(kept);
                } else if has_kept {
                    plan.notes.push(format!(
                        "{} was replaced after the installation and stays; the hook from before lies in {}",
                        at.display(),
                        kept.display()
                    ));
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        if has_kept {
            plan.steps.push(Step::Move { from: kept.clone(), to: at.clone() });
            back.push(kept);
            gone.retain(|path| *path != at);
        }
    }
    plan_helpers_out(&folder, &kept_folder, &back, plan)?;
    plan_folder_out(&folder, &gone, plan)
}

/// Removes what [`plan_helpers`] made, and the folder where nothing else is left in it.
fn plan_helpers_out(
    folder: &Path,
    kept: &Path,
    back: &[PathBuf],
    plan: &mut Plan,
) -> Result<(), InstallError> {
    if !kept.is_dir() {
        return Ok(());
    }
    let all = entries(kept)?;
    // A hook that stays here is called by a script that stays there: leave it its helpers.
    let hooks_stay = all.iter().any(|entry| {
        ALL_HOOKS.iter().any(|hook| entry.file_name().is_some_and(|name| name == *hook))
            && !back.contains(entry)
            && !is_helper(folder, entry)
    });
    if hooks_stay {
        return Ok(());
    }
    let mut stays = false;
    for entry in all.iter().filter(|entry| !back.contains(entry)) {
        let ignore = entry.file_name().is_some_and(|name| name == ".gitignore")
            && fs::read(entry).is_ok_and(|content| content == b"*\n");
        if is_helper(folder, entry) || ignore {
            plan.steps.push(Step::Remove(entry.clone()));
        } else {
            stays = true;
            plan.notes.push(format!("{} is from before an earlier installation and stays", entry.display()));
        }
    }
    if !stays {
        plan.steps.push(Step::RemoveFolder(kept.to_owned()));
    }
    Ok(())
}

/// Removes the hooks folder where an installation made it and nobody else uses it.
fn plan_folder_out(folder: &Path, gone: &[PathBuf], plan: &mut Plan) -> Result<(), InstallError> {
    let created = folder.join(CREATED);
    let Ok(content) = fs::read_to_string(&created) else { return Ok(()) };
    plan.steps.push(Step::Remove(created.clone()));
    if entries(folder)?.iter().any(|entry| *entry != created && !gone.contains(entry)) {
        return Ok(());
    }
    plan.steps.push(Step::RemoveFolder(folder.to_owned()));
    let above: usize = content.lines().next().and_then(|line| line.parse().ok()).unwrap_or_default();
    let mut below = folder;
    for parent in folder.ancestors().skip(1).take(above) {
        if entries(parent)?.iter().any(|entry| entry != below) {
            break;
        }
        plan.steps.push(Step::RemoveFolder(parent.to_owned()));
        below = parent;
    }
    Ok(())
}

/// Whether an installation left anything in this folder.
pub(super) fn any_of_ours(folder: &Path) -> bool {
    ALL_HOOKS.iter().any(|name| {
        matches!(
            inspect(&folder.join(name)),
            Ok(Found::Link(_) | Found::Script { .. } | Found::Changed { .. })
        )
    })
}

/// Whether somebody else's hook runs from this folder at the place of one of `hooks`.
pub(super) fn any_foreign(folder: &Path, hooks: &[&str]) -> bool {
    hooks.iter().any(|name| matches!(inspect(&folder.join(name)), Ok(Found::Foreign { active: true })))
}

/// A folder's entries in the order of their names, so that plans are the same each time.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut all = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(io_error("list", folder))?;
    all.sort();
    Ok(all)
}

/// `path.1`, `path.2`, …: the first that is free.
fn free_name(path: &Path) -> PathBuf {
    (1_u32..)
        .map(|number| {
            let mut name = path.file_name().map(OsString::from).unwrap_or_default();
            name.push(format!(".{number}"));
            path.with_file_name(name)
        })
        .find(|candidate| candidate.symlink_metadata().is_err())
        .unwrap_or_else(|| path.to_owned())
}
