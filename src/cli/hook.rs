//! `hook`: what Git calls. It always exits 0, prints nothing on success and one line on standard error at
//! most, and leaves the network to the worker.
//!
//! The order of retreat, so that no commit is lost: a spool file in the agent's data folder, which every
//! command takes into the outbox; a spool file in the repository's common Git folder. Where the commit cannot even be
//! judged (settings that do not load), its id is noted instead of its record, and the worker judges it once that is
//! mended. The same where judging takes too long (`time_limit`): a monster commit is the worker's to judge. Rules that
//! do not load are no such case: the packs as they last loaded judge, and the commit is noted beside its record, so
//! that the mended ones judge it again.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gitops_agent::capture::{CommitId, Repo};
use gitops_agent::destination::Destination;
use gitops_agent::outbox::{NewEntry, Outbox, Urgency, write_spool};
use gitops_agent::record::Repository;
use gitops_agent::record::redact::redact;
use gitops_agent::recorder::{self, Recorded};
use gitops_agent::{deferred, hints, install, outbox, reconcile, time_limit};
use gitops_agent::{delivery, detach};
use jiff::Timestamp;

use super::failure::{ExitCode, Failure};
use super::session::{BrokenRules, InForce, Session};
use super::{environment, ui, worker};

/// Commits of one push or rewrite that are judged at once; the rest is noted for the worker, so that a
/// push of years does not wait.
const AT_ONCE: usize = 64;

/// What the hook goes on as where its time is over: what is noted needs a worker.
const OVERTIME: &str = "overtime";

/// The file that keeps a repository's id.
const REPOSITORY_ID: &str = "repository-id";

/// A commit that the hook was told of.
struct Announced {
    id: CommitId,
    supersedes: Vec<String>,
}

/// Commits that came together: all that the hook was told of, or those of one ref of a push.
struct Batch {
    /// The ref of a push that this repository received.
    arrived: Option<Pushed>,
    commits: Vec<Announced>,
}

/// One call of a hook.
struct Call<'a> {
    repo: &'a Repo,
    name: &'a str,
    started: Instant,
}

/// Whether Git calls us, by `argv[0]` (the hook file is a link to the binary) or by the word `hook`; the
/// hook's name and its arguments.
pub(super) fn announced(arguments: &[OsString]) -> Option<(String, Vec<OsString>)> {
    let called = Path::new(arguments.first()?).file_name().and_then(OsStr::to_str).unwrap_or("");
    // Other hook managers move what they find aside, as `post-commit.legacy` or `.old`, and go on calling it.
    let called = called.split('.').next().unwrap_or("");
    if install::ALL_HOOKS.contains(&called) {
        return Some((called.to_owned(), arguments.get(1..)?.to_vec()));
    }
    if arguments.get(1)? != "hook" {
        return None;
    }
    let name = arguments.get(2)?.to_str()?;
    (!name.starts_with('-')).then(|| (name.to_owned(), arguments[3..].to_vec()))
}

/// Runs a hook; it ends with 0, whatever happens.
#[expect(clippy::exit, reason = "a panic has no other way to 0")]
pub(super) fn run(name: &str, arguments: Vec<OsString>) -> ExitCode {
    // A panic would print a page and, in pre-push, stop the push.
    std::panic::set_hook(Box::new(|_| {
        ui::error(
            "gitops-agent: internal error; the commit is not affected, `gitops-agent verify` will name it",
        );
        std::process::exit(0);
    }));
    if let Err(failure) = capture(name, &arguments) {
        ui::error(&format!("gitops-agent: {}", failure.line()));
    }
    ExitCode::SUCCESS
}

fn capture(name: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let started = Instant::now();
    if name == OVERTIME {
        environment::paths().inspect(|paths| start_worker(paths.data()));
        return Ok(());
    }
    if environment::switched_off() || !install::ALL_HOOKS.contains(&name) {
        return Ok(());
    }
    // Ending the process frees everything at once; doing it piece by piece would only take time.
    let repo = ManuallyDrop::new(Repo::open_from_env()?);
    let call = Call { repo: &repo, name, started };
    if name == install::SERVER_HOOK {
        return receive(&call, &stdin()?);
    }
    let commits = commits(&repo, name, arguments)?;
    keep_all(&call, &[Batch { arrived: None, commits }])
}

/// What a push brought, ref by ref: each commit gets the branch that it arrived on. At most [`AT_ONCE`]
/// commits are judged here, the rest is noted; the pusher waits for this.
fn receive(call: &Call<'_>, lines: &str) -> Result<(), Failure> {
    let pushed: Vec<Pushed> = lines.lines().filter_map(pushed).collect();
    let tips: Vec<(CommitId, Option<CommitId>)> =
        pushed.iter().map(|pushed| (pushed.new, pushed.old)).collect();
    let mut truncated = false;
    let mut batches = Vec::new();
    for (pushed, found) in pushed.into_iter().zip(call.repo.received(&tips)?) {
        truncated |= found.truncated;
        batches.push(Batch { arrived: Some(pushed), commits: each(found.ids) });
    }
    keep_all(call, &batches)?;
    if truncated {
        let message = "the push brought more commits than a hook looks at; `gitops-agent backfill --all` in the \
                       repository that was pushed to records the rest";
        return Err(Failure::new(0, message));
    }
    Ok(())
}

fn each(ids: Vec<CommitId>) -> Vec<Announced> {
    ids.into_iter().map(|id| Announced { id, supersedes: Vec::new() }).collect()
}

/// One line of `post-receive`'s input.
struct Pushed {
    old: Option<CommitId>,
    new: CommitId,
    branch: Option<String>,
}

/// `old new ref`. Deleted refs bring nothing, and other refs than branches and tags hold no commits of
/// people (`refs/notes/`, a forge's own).
fn pushed(line: &str) -> Option<Pushed> {
    let mut words = line.splitn(3, ' ');
    let id = |hex: &str| hex.bytes().any(|byte| byte != b'0').then(|| CommitId::from_hex(hex)).flatten();
    let (old, new, name) = (id(words.next()?), id(words.next()?)?, words.next()?);
    let branch = name.strip_prefix("refs/heads/");
    (branch.is_some() || name.starts_with("refs/tags/")).then(|| Pushed {
        old,
        new,
        branch: branch.map(str::to_owned),
    })
}

/// Records the commits, or at least notes them; at most [`AT_ONCE`] are judged here.
fn keep_all(call: &Call<'_>, batches: &[Batch]) -> Result<(), Failure> {
    let (mut left, mut failure) = (AT_ONCE, None);
    for (at, batch) in batches.iter().enumerate().filter(|(_, batch)| !batch.commits.is_empty()) {
        // One ref's failure must not cost the others' commits.
        failure = keep_batch(call, batch, &batches[at..], left).err().or(failure);
        left -= batch.commits.len().min(left);
    }
    failure.map_or(Ok(()), Err)
}

/// Records one batch, or at least notes it. `open` are this one and those after it, which are noted where the time is over.
fn keep_batch(call: &Call<'_>, batch: &Batch, open: &[Batch], at_once: usize) -> Result<(), Failure> {
    let now = Timestamp::now();
    let recorded = record(call, batch, open, at_once, now);
    time_limit::lift();
    match recorded {
        Ok(None) => Ok(()),
        Ok(Some(broken)) => {
            let instead = broken.instead();
            let line = Failure::from(broken.error).line();
            Err(Failure::new(0, format!("{line} (recorded by {instead}; judged again once this is mended)")))
        }
        Err(failure) => {
            note(call, batch, &batch.commits, now)?;
            let line = failure.line();
            Err(Failure::new(
                0,
                format!("{line} (the commit is noted and will be recorded once this is mended)"),
            ))
        }
    }
}

/// What the hook announces; empty where it announces nothing that was made here.
fn commits(repo: &Repo, name: &str, arguments: &[OsString]) -> Result<Vec<Announced>, Failure> {
    let head = || -> Result<Vec<Announced>, Failure> {
        let head = repo.head()?.map(|id| Announced { id, supersedes: Vec::new() });
        Ok(head.into_iter().collect())
    };
    match name {
        "post-commit" | "post-applypatch" => head(),
        // `1` is a squash, whose commit is still to come; a fast-forward brings other people's commits.
        "post-merge" if arguments.first().is_some_and(|flag| flag == "1") => Ok(Vec::new()),
        "post-merge" => {
            let forward = repo.last_reflog_message().is_some_and(|message| message.ends_with("Fast-forward"));
            if forward { Ok(Vec::new()) } else { head() }
        }
        "post-rewrite" => {
            let mut commits = rewritten(&stdin()?);
            // A commit that was skipped at once is said to have become the one that the rebase began with,
            // which nobody made here.
            let base = repo.rebase_base();
            commits.retain(|commit| Some(commit.id) != base);
            Ok(commits)
        }
        "pre-push" => unpublished(repo, arguments.first().map(OsString::as_os_str), &stdin()?),
        _ => Ok(Vec::new()),
    }
}

/// Standard input, at most 16 MiB: a rewrite of 150 000 commits.
fn stdin() -> Result<String, Failure> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(16 << 20).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `old new [extra]` a line; several old commits can become one (squash).
fn rewritten(lines: &str) -> Vec<Announced> {
    let mut commits: Vec<Announced> = Vec::new();
    for line in lines.lines() {
        let mut words = line.split(' ');
        let (Some(old), Some(new)) = (words.next(), words.next().and_then(CommitId::from_hex)) else {
            continue;
        };
        match commits.iter_mut().find(|commit| commit.id == new) {
            Some(commit) => commit.supersedes.push(old.to_owned()),
            None => commits.push(Announced { id: new, supersedes: vec![old.to_owned()] }),
        }
    }
    commits
}

/// `local-ref local-id remote-ref remote-id` a line: what the push is about to send.
fn unpublished(repo: &Repo, remote: Option<&OsStr>, lines: &str) -> Result<Vec<Announced>, Failure> {
    let remote = remote.map(OsStr::to_string_lossy).unwrap_or_default();
    let tips: Vec<CommitId> = lines
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|id| id.bytes().any(|byte| byte != b'0'))
        .filter_map(CommitId::from_hex)
        .collect();
    let found = repo.unpublished(&tips, &remote)?;
    Ok(each(found.ids))
}

/// Records the commits; gives back what is wrong with the rules, where the last good ones had to judge.
fn record(
    call: &Call<'_>,
    batch: &Batch,
    open: &[Batch],
    at_once: usize,
    now: Timestamp,
) -> Result<Option<BrokenRules>, Failure> {
    let Call { repo, name, .. } = *call;
    let commits = &batch.commits;
    let session = Session::of_repo(repo, None)?;
    if !session.settings.enabled.value {
        let ids: Vec<CommitId> = commits.iter().map(|commit| commit.id).collect();
        reconcile::pass_over(repo.common_dir(), &ids);
        return Ok(None);
    }
    let data = session.paths().ok().map(|paths| paths.data().to_owned());
    limit(call, open, &session.settings.destination.value, data.as_deref(), now);
    let InForce { rules, broken } = session.rules_in_force()?;
    let rules = ManuallyDrop::new(rules);
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
    let mut named = named(repo);
    if let Some(pushed) = &batch.arrived {
        named = named.on(pushed.branch.as_deref());
    }
    let recorder = session.recorder_of(named, &rules);
    let unknown = unknown(data.as_deref(), &session, &recorder.judgement(), name, commits, now);
    let (now_judged, later) = unknown.split_at(unknown.len().min(at_once));
    let judged = repo.reading(|reading| {
        let judge =
            |commit: &&Announced| recorder.record(reading, &commit.id, name, commit.supersedes.clone(), now);
        now_judged.iter().map(judge).collect::<Result<Vec<_>, _>>()
    });
    let records = judged??;
    // From here on it is the disk that takes its time, and a note would need it as well.
    time_limit::lift();
    let destination = &session.settings.destination.value;
    let entries: Vec<NewEntry<'_>> =
        records.iter().map(|made| entry(made, &session, destination, place)).collect();
    keep(&entries, data.as_deref(), repo.common_dir(), now)?;
    if session.settings.class.is_none() {
        recorder.inferred().keep(repo);
    }
    let later = if broken.is_some() { &unknown } else { later };
    if !later.is_empty() {
        note(call, batch, later.iter().copied(), now)?;
    }
    if let Some(data) = &data {
        start_worker(data);
    }
    Ok(broken)
}

/// Limits the hook's time: when it is over, the open batches are noted, and a worker is started for them.
fn limit(call: &Call<'_>, open: &[Batch], destination: &Destination, data: Option<&Path>, now: Timestamp) {
    let Ok(program) = std::env::current_exe() else { return };
    let notes: Vec<deferred::Note> = open
        .iter()
        .filter(|batch| !batch.commits.is_empty())
        .map(|batch| noted(call, batch, &batch.commits, Some(destination.clone()), now))
        .collect();
    let folders: Vec<PathBuf> =
        data.map(outbox::spool_in).into_iter().chain([spool_of(call.repo.common_dir())]).collect();
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let left = time_limit::HOOK.saturating_sub(call.started.elapsed());
    time_limit::set(left, &notes, &folders, &program, &["hook", OVERTIME]);
}

/// Makes the records durable. One goes into a spool file: a third of the database's
/// time, since none has to be opened, and no other process's lock is ever waited for. Many go into
/// the outbox, in one transaction, while it can be had.
fn keep(
    entries: &[NewEntry<'_>],
    data: Option<&Path>,
    common_dir: &Path,
    now: Timestamp,
) -> Result<(), Failure> {
    if let (2.., Some(data)) = (entries.len(), data)
        && let Ok(mut outbox) = Outbox::open_for_hook(data)
        && outbox.enqueue(entries, now).is_ok()
    {
        return Ok(());
    }
    for entry in entries {
        spool(data, common_dir, |folder| write_spool(folder, entry, now))?;
    }
    Ok(())
}

/// The record as the outbox wants it.
pub(super) fn entry<'a>(
    made: &'a Recorded,
    session: &'a Session,
    destination: &'a Destination,
    place: &'a Path,
) -> NewEntry<'a> {
    NewEntry {
        tenant: &made.record.tenant_id,
        date: &made.record.commit_date,
        id: &made.record.id,
        destination,
        digest: &made.record.digest,
        judgement: &made.judgement,
        body: &made.json,
        urgency: urgency(&made.record.source),
        repository: place,
        hold: session.settings.hold_at(destination),
    }
}

fn urgency(source: &str) -> Urgency {
    if matches!(source, "backfill" | "reconcile") { Urgency::History } else { Urgency::Live }
}

/// The repository's name. Where there is no remote, the id that an earlier hook found is kept in the common
/// Git folder: walking to the root commits costs milliseconds that a hook has not got.
pub(super) fn named(repo: &Repo) -> Repository {
    let mut found = None;
    let repository = recorder::repository(repo, || {
        let kept = hints::read(repo.common_dir(), REPOSITORY_ID, 64)?;
        let kept = String::from_utf8(kept).ok()?;
        found = (kept.len() == 64 && kept.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(kept);
        found.clone()
    });
    if repository.remote.is_none() && found.as_deref() != Some(&repository.id) {
        // Best effort: the next hook finds it again.
        let _ = hints::write(repo.common_dir(), REPOSITORY_ID, repository.id.as_bytes());
    }
    repository
}

/// Removes what [`named`] keeps; spooled commits stay until they are delivered.
pub(super) fn forget(repo: &Repo) {
    hints::forget(repo.common_dir(), REPOSITORY_ID);
    reconcile::forget(repo.common_dir());
    gitops_agent::inferred::forget(repo);
    // Fails, as it should, where commits still lie in it.
    let _ = std::fs::remove_dir(hints::folder(repo.common_dir()));
}

/// Of a push, sent or received, the commits that are not recorded yet; of the other hooks all, since a rewrite adds to the
/// record that `post-commit` made.
///
/// What earlier hooks spooled is taken in first, or the push would judge it again and be named as its source.
fn unknown<'a>(
    data: Option<&Path>,
    session: &Session,
    judgement: &str,
    name: &str,
    commits: &'a [Announced],
    now: Timestamp,
) -> Vec<&'a Announced> {
    let known = match (name, data) {
        ("pre-push" | install::SERVER_HOOK, Some(data)) => Outbox::open_for_hook(data)
            .and_then(|mut outbox| {
                let settings = &session.settings;
                outbox.take_in_spool(&[outbox::spool_in(data)], now)?;
                outbox.known(&settings.tenant.value, &settings.destination.value, Some(judgement))
            })
            .unwrap_or_default(),
        _ => std::collections::HashSet::new(),
    };
    commits.iter().filter(|commit| !known.contains(&commit.id.hex())).collect()
}

/// The spool folder of a repository, for where the agent's own cannot be written.
fn spool_of(common_dir: &Path) -> PathBuf {
    outbox::spool_in(&hints::folder(common_dir))
}

/// Writes into the first of the spool folders that can be written.
fn spool<E>(
    data: Option<&Path>,
    common_dir: &Path,
    write: impl Fn(&Path) -> Result<(), E>,
) -> Result<(), Failure>
where
    Failure: From<E>,
{
    let first = data.map(|data| write(&outbox::spool_in(data)));
    match first {
        Some(Ok(())) => Ok(()),
        _ => Ok(write(&spool_of(common_dir))?),
    }
}

/// Notes commits that could not be judged now.
fn note<'a>(
    call: &Call<'_>,
    batch: &Batch,
    commits: impl IntoIterator<Item = &'a Announced>,
    now: Timestamp,
) -> Result<(), Failure> {
    let noted = noted(call, batch, commits, Session::destination(call.repo), now);
    let data: Option<PathBuf> = environment::paths().map(|paths| paths.data().to_owned());
    spool(data.as_deref(), call.repo.common_dir(), |folder| deferred::write(folder, &noted))
}

/// The note of some commits of a batch.
fn noted<'a>(
    call: &Call<'_>,
    batch: &Batch,
    commits: impl IntoIterator<Item = &'a Announced>,
    destination: Option<Destination>,
    now: Timestamp,
) -> deferred::Note {
    let branch = batch.arrived.as_ref().map_or_else(|| call.repo.branch(), |pushed| pushed.branch.clone());
    deferred::Note {
        git_dir: call.repo.git_dir().to_owned(),
        source: call.name.to_owned(),
        branch: branch.map(|branch| redact(&branch).into_owned()),
        destination,
        commits: commits
            .into_iter()
            .map(|commit| deferred::Commit { id: commit.id.hex(), supersedes: commit.supersedes.clone() })
            .collect(),
        noted_at: now,
    }
}

/// Starts the worker, unless one is at work already. Without a worker the record waits for the next hook or
/// for `flush`.
fn start_worker(data: &Path) {
    if let (Ok(Some(lock)), Ok(exe)) = (delivery::claim(data), std::env::current_exe()) {
        let _ = detach::spawn_worker(&exe, &[worker::NAME], lock.into_file());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_a_hooks_name_and_the_word_hook_announce() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let (name, rest) = announced(&words("/repo/.git/hooks/post-rewrite amend")).expect("a hook");
        assert_eq!((name.as_str(), rest), ("post-rewrite", words("amend")));
        let (name, _) = announced(&words(".git/hooks/post-commit.legacy")).expect("a hook");
        assert_eq!(name, "post-commit");
        let (name, rest) = announced(&words("gitops-agent hook pre-push origin url")).expect("a hook");
        assert_eq!((name.as_str(), rest), ("pre-push", words("origin url")));
        assert!(announced(&words("gitops-agent status")).is_none());
        assert!(announced(&words("gitops-agent hook --help")).is_none());
    }

    #[test]
    fn a_squash_supersedes_all_that_it_took_in() {
        let (a, b, new) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let commits = rewritten(&format!("{a} {new}\n{b} {new}\nnonsense\n"));
        assert_eq!(commits.len(), 1);
        assert_eq!(commits[0].supersedes, [a, b]);
    }
}
