//! `export`: a tenant's records as NDJSON, for another store, an audit, or a drawer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gitops_agent::archive::{self, Found, Tally};
use gitops_agent::store::{Query, Store};
use serde_json::Value;

use super::failure::{DISK, ExitCode, Failure, USAGE};
use super::filter::Filter;
use super::session::{Session, block_on};
use super::shown;
use super::ui::{self, Ui, count};

/// Write a tenant's records out, one a line.
///
/// Newest first, in one form whatever store they are in: the same records are the same bytes. A file is there
/// when it is whole, and not before; one that was interrupted is written anew. What the outbox still holds is not in
/// the store, so not in the export: `gitops-agent flush` first.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all written, 4 access denied by the store, 5 the disk failed or a stored record cannot be read.

Examples:
  gitops-agent export --output clinic-a.ndjson
  gitops-agent export --since 2026-07-01 --until 2026-09-30 --repository portal | zstd > q3.ndjson.zst
  GITOPS_AGENT_STORE=local gitops-agent export | gitops-agent import -"
)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filter: Filter,
    /// The file to write, readable by you alone; standard output unless given.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let session = Session::here(None)?;
    let query = args.filter.query(&session)?;
    let store = session.store()?;
    let mut export = Export::default();
    match &args.output {
        Some(path) => {
            let mut partial = Partial::new(path)?;
            export.write(&*store, &query, &mut partial.file)?;
            partial.finish(path)?;
        }
        None => export.write(&*store, &query, ui.raw())?,
    }
    let records = count(usize::try_from(export.tally.records()).unwrap_or(usize::MAX), "record");
    let place = &session.settings.destination.value;
    ui.note(format!("{records} of tenant {:?} from {place}; SHA-256 {}", query.tenant, export.tally.sum()));
    for id in &export.differing {
        ui.note(format!(
            "{id}: its record was changed past the store's own columns; `gitops-agent verify` tells more"
        ));
    }
    if export.damaged.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let ids = export.damaged.join(", ");
    let message = format!("not in the export, because the store's copy cannot be read: {ids}");
    Err(Failure::new(DISK, message)
        .hint("`gitops-agent verify` looks at the rest; a backfill into an empty store records them anew"))
}

#[derive(Default)]
struct Export {
    tally: Tally,
    /// Ids; faults of single records, of which there are few.
    differing: Vec<String>,
    damaged: Vec<String>,
}

impl Export {
    /// Writes what a query finds; one document is held at a time, and a page of the store's.
    fn write(
        &mut self,
        store: &dyn Store,
        query: &Query,
        out: &mut (impl Write + Send),
    ) -> Result<(), Failure> {
        let mut failed = None;
        block_on(async {
            let mut sink = |document: Value| {
                failed = self.put(document, out).err();
                failed.is_none()
            };
            store.query(query, &mut sink).await
        })??;
        failed.map_or(Ok(()), Err)?;
        Ok(out.flush()?)
    }

    fn put(&mut self, document: Value, out: &mut impl Write) -> Result<(), Failure> {
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        let line = match archive::line(document)? {
            Found::Record(line) => line,
            Found::Differing(line) => {
                self.differing.push(id);
                line
            }
            Found::Damaged => {
                self.damaged.push(id);
                return Ok(());
            }
        };
        // The same in a file as on a terminal, so that the bytes are the same too.
        let mut line = ui::escaped(&line);
        line.push('\n');
        self.tally.add(&line);
        Ok(out.write_all(line.as_bytes())?)
    }
}

/// A file that takes its name when it is whole. The name under way is fixed, so that nothing piles up where exports are
/// killed, and locked, so that two do not write into one.
struct Partial {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Partial {
    fn new(path: &Path) -> Result<Self, Failure> {
        let failed = |path: &Path, error: std::io::Error| {
            Failure::new(USAGE, format!("{} cannot be written: {error}", shown(path)))
                .hint("give --output a file in a folder of your own")
        };
        let name = path.file_name().filter(|_| !path.is_dir()).ok_or_else(|| {
            Failure::new(USAGE, format!("{} is no name for a file", shown(path))).hint("give --output a file")
        })?;
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = path.with_file_name(partial);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&partial)
            .map_err(|error| failed(&partial, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another export is writing {}", shown(&partial));
                return Err(Failure::new(USAGE, message).hint("wait for it, or give --output another name"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&partial, error)),
        }
        file.set_len(0)?;
        Ok(Self { file: BufWriter::new(file), path: partial })
    }

    fn finish(mut self, path: &Path) -> Result<(), Failure> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(std::fs::rename(&self.path, path)?)
    }
}
