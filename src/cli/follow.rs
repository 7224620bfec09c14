//! `query --follow`: a tenant's changes for downstream systems, without an end.
//!
//! Each page is printed and flushed before the cursor is written down, so what a killed one has not written down
//! comes again: at least once, never not at all. The cursor's file names store and tenant, because a place in one
//! means nothing in another.
//!
//! Reading and printing are on a thread of their own: one that waits for a reader of the pipe who does not read must not
//! keep a signal waiting.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gitops_agent::delivery::AGAIN;
use gitops_agent::destination::Destination;
use gitops_agent::store::{ErrorClass, FOREIGN_CURSOR, Query, Store};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::failure::{DISK, ExitCode, Failure, USAGE};
use super::query::{Format, Printer};
use super::session::block_on;
use super::shown;
use super::ui::{self, Ui};

/// How long a page that is being printed may take once it is to stop.
const LEAVE: Duration = Duration::from_secs(2);
/// The longest wait after a failure that passes.
const LONGEST: Duration = Duration::from_secs(60);

/// What to follow, and how.
pub(super) struct Follow {
    pub(super) store: Arc<dyn Store>,
    pub(super) query: Query,
    pub(super) destination: Destination,
    pub(super) format: Format,
    pub(super) cursor: Option<PathBuf>,
    pub(super) every: Duration,
}

/// The cursor's file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    schema_version: u32,
    destination: Destination,
    tenant: String,
    cursor: String,
}

pub(super) fn run(follow: Follow) -> Result<ExitCode, Failure> {
    if !matches!(follow.format, Format::Ndjson | Format::Csv) {
        return Err(Failure::new(USAGE, "--follow has no end, so it prints lines: --format ndjson or csv"));
    }
    let ended = block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (stop, stopped) = watch::channel(());
        let (tell, mut end) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = tell.send(block_on(follow.work(stopped)).and_then(|result| result));
        });
        let ended = tokio::select! {
            ended = &mut end => return Ok(ended.ok()),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        drop(stop);
        // What is lost with a thread that does not end comes again: the cursor is behind it.
        Ok::<_, std::io::Error>(tokio::time::timeout(LEAVE, end).await.ok().and_then(Result::ok).or(ended))
    })??;
    ended.unwrap_or(Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

impl Follow {
    /// Until it is told to stop, or nobody reads.
    async fn work(self, mut stopped: watch::Receiver<()>) -> Result<(), Failure> {
        let after = self.cursor.as_deref().map(|path| self.read_cursor(path)).transpose()?.flatten();
        let mut ui = Ui::new(true);
        let mut printer = Printer::new(self.format, &mut ui);
        let mut changes = self.store.changes(&self.query.tenant, after.as_deref()).await.map_err(foreign)?;
        let (mut failures, mut written) = (0, after);
        loop {
            let page = tokio::select! {
                page = changes.next() => page,
                _ = stopped.changed() => return Ok(()),
            };
            let wait = match page {
                Ok(page) => {
                    failures = 0;
                    let page = page.value;
                    for document in page.documents {
                        if document["damaged"] == true {
                            ui::error(&format!("{}: the store's copy cannot be read", document["id"]));
                        } else if self.query.matches(&document) {
                            printer.print(document)?;
                        }
                    }
                    printer.flush()?;
                    if let Some(path) = &self.cursor
                        && written.as_ref() != Some(&page.cursor)
                    {
                        self.write_cursor(path, &page.cursor)?;
                    }
                    written = Some(page.cursor);
                    page.caught_up.then_some(self.every)
                }
                Err(error) if error.class == ErrorClass::Again => {
                    failures += 1;
                    if failures == 1 {
                        ui::error(&format!("{error}; trying again"));
                    }
                    let wait = AGAIN.wait(failures, fastrand::f64()).min(LONGEST);
                    Some(wait.max(error.retry_after.unwrap_or_default()))
                }
                Err(error) => return Err(foreign(error)),
            };
            let Some(wait) = wait else { continue };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.changed() => return Ok(()),
                () = nobody_reads() => return Ok(()),
            }
        }
    }

    /// Where to go on; `None` where the file is not there yet.
    fn read_cursor(&self, path: &Path) -> Result<Option<String>, Failure> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(USAGE, format!("{} cannot be read: {error}", shown(path))));
            }
        };
        let wrong = |what: String| {
            Failure::new(USAGE, format!("{}: {what}", shown(path)))
                .hint("give --cursor another file, or remove this one to begin with the first record")
        };
        let kept: Kept =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("this is no cursor: {error}")))?;
        if kept.schema_version != 1 {
            return Err(wrong(format!(
                "a cursor of version {}, which a newer agent wrote",
                kept.schema_version
            )));
        }
        if kept.destination != self.destination || kept.tenant != self.query.tenant {
            return Err(wrong(format!("a cursor of tenant {:?} in {}", kept.tenant, kept.destination)));
        }
        Ok(Some(kept.cursor))
    }

    /// Whole or not at all.
    fn write_cursor(&self, path: &Path, cursor: &str) -> Result<(), Failure> {
        let kept = Kept {
            schema_version: 1,
            destination: self.destination.clone(),
            tenant: self.query.tenant.clone(),
            cursor: cursor.to_owned(),
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(&kept)?)?;
            file.sync_data()?;
            std::fs::rename(&partial, path)
        };
        write().map_err(|error| {
            Failure::new(DISK, format!("{} cannot be written: {error}", shown(path)))
                .hint("what was printed since it was last written comes again")
        })
    }
}

fn foreign(error: gitops_agent::store::StoreError) -> Failure {
    if error.kind == FOREIGN_CURSOR {
        return Failure::new(USAGE, error.message)
            .hint("the store was made anew: remove the cursor's file to begin with the first record");
    }
    error.into()
}

/// Comes when the reader of a pipe has gone; otherwise never. A file and a terminal have no reader.
async fn nobody_reads() {
    let gone = async {
        let out: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned()?;
        // Unchecked: the check would make writes to standard output return early.
        Sender::from_owned_fd_unchecked(out)?.ready(Interest::ERROR).await.map(drop)
    };
    if gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}
