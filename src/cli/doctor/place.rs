//! The agent's data folder: can it be written, is it on a disk of this machine, is the outbox in it sound.

use std::path::Path;

use gitops_agent::disk::{self, Disk, DiskKind};
use gitops_agent::outbox::{Outbox, Stats};
use jiff::Timestamp;

use super::super::session::Session;
use super::{Findings, shown};

const MOVE: &str = "set GITOPS_AGENT_HOME to a folder on a local disk, for GUIs too";
/// Below this, 64 MB, the next months may not fit.
const LITTLE: u64 = 64_000_000;
/// A pending record older than an hour is worth a look: the worker runs with every commit.
const STALE_SECONDS: u64 = 3600;

pub(super) fn look(session: &Session, found: &mut Findings) {
    let data = match session.paths() {
        Ok(paths) => paths.data().to_owned(),
        Err(failure) => {
            return found.failed("outbox-folder", failure.line(), "set HOME, or GITOPS_AGENT_HOME");
        }
    };
    // Opening makes the folder where this is the first use.
    let outbox = session.outbox();
    match probe(&data) {
        Ok(()) => found.ok("outbox-folder", format!("{} can be written", shown(&data))),
        Err(error) => found.failed(
            "outbox-folder",
            format!("{}: {error}; hooks spool into the repository's Git folder meanwhile", shown(&data)),
            format!("make {} yours and writable (`ls -ld` shows whose it is)", shown(&data)),
        ),
    }
    match disk::disk(&data) {
        Ok(disk) => the_disk(&disk, found),
        Err(error) => found.warning("outbox-disk", format!("{}: {error}", shown(&data)), MOVE),
    }
    match outbox {
        Ok(outbox) => health(&outbox, found),
        Err(failure) => found.failed("outbox", failure.line(), "gitops-agent flush"),
    }
}

/// Writes a file and removes it.
fn probe(data: &Path) -> std::io::Result<()> {
    let file = data.join(format!("doctor-{}.tmp", std::process::id()));
    std::fs::OpenOptions::new().write(true).create_new(true).open(&file)?;
    std::fs::remove_file(file)
}

fn the_disk(disk: &Disk, found: &mut Findings) {
    let name = &disk.name;
    match disk.kind {
        DiskKind::Network => found.failed(
            "outbox-disk",
            format!("a network file system ({name}): the outbox's write-ahead log does not work there"),
            MOVE,
        ),
        DiskKind::UserSpace => found.warning(
            "outbox-disk",
            format!("a file system in user space ({name}), which may lie on another machine"),
            MOVE,
        ),
        DiskKind::Memory => found.warning(
            "outbox-disk",
            format!("a file system in memory ({name}): queued records are gone with the next start"),
            MOVE,
        ),
        DiskKind::Local if disk.free < LITTLE => found.warning(
            "outbox-disk",
            format!("{} MB are free on the local disk ({name})", disk.free / 1_000_000),
            "make room on the disk",
        ),
        DiskKind::Local => {
            found.ok("outbox-disk", format!("a local disk ({name}), {} MB free", disk.free / 1_000_000));
        }
    }
}

fn health(outbox: &Outbox, found: &mut Findings) {
    if let Some(notice) = outbox.notice() {
        return found.failed("outbox", notice.to_string(), "gitops-agent backfill");
    }
    let stats = match outbox.sound().and_then(|()| outbox.stats(Timestamp::now())) {
        Ok(stats) => stats,
        Err(error) => return found.failed("outbox", error.to_string(), "gitops-agent flush"),
    };
    let Stats { pending, held, refused, delivered, .. } = stats;
    let summary = format!("sound: {pending} pending, {held} held, {refused} refused, {delivered} delivered");
    if held > 0 {
        found.failed(
            "outbox",
            summary,
            "`gitops-agent outbox list --state held` says why, `gitops-agent flush` tries again",
        );
    } else if refused > 0 {
        found.warning("outbox", summary, "gitops-agent outbox list --state refused");
    } else if let Some(age) = stats.oldest_pending_seconds.filter(|age| *age > STALE_SECONDS) {
        found.warning("outbox", format!("{summary}; the oldest waits for {age} s"), "gitops-agent flush");
    } else {
        found.ok("outbox", summary);
    }
}
