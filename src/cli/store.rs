//! `store init` and `store check`.

use super::failure::{DENIED, ExitCode, Failure};
use super::session::{Session, block_on};
use super::ui::Ui;
use gitops_agent::config::Settings;
use gitops_agent::store::CheckItem;

/// Create database and container, or test connection and permissions.
#[derive(clap::Args, Debug)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(clap::Subcommand, Debug)]
enum StoreCommand {
    /// Create what is missing: database, container, indexing policy, time to live. Safe to repeat.
    Init(Options),
    /// Look at everything that delivery needs.
    Check(Options),
}

#[derive(clap::Args, Debug)]
struct Options {
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StoreArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let session = Session::here(None)?;
    let store = session.store()?;
    let (mut items, options) = match &args.command {
        StoreCommand::Init(options) => (block_on(store.init())??, options),
        StoreCommand::Check(options) => (block_on(store.check())?, options),
    };
    if matches!(args.command, StoreCommand::Check(_)) {
        items.push(tenant(&session.settings));
    }
    if options.json {
        ui.json(&items)?;
    } else {
        ui.line(session.settings.destination.value.to_string())?;
        print(&items, ui)?;
    }
    Ok(if items.iter().all(|item| item.ok) { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
}

/// What the store itself cannot know: whether records may go there at all.
pub(super) fn tenant(settings: &Settings) -> CheckItem {
    let tenant = &settings.tenant;
    let hold = settings.hold();
    CheckItem {
        name: "tenant",
        ok: hold.is_none(),
        detail: match hold {
            Some(_) => "none is set, and records for Cosmos DB wait until one is".to_owned(),
            None => format!("{} ({})", tenant.value, tenant.origin),
        },
        hint: hold.map(|_| "set GITOPS_AGENT_TENANT, or `tenant` in config.toml".to_owned()),
    }
}

fn print(items: &[CheckItem], ui: &mut Ui) -> Result<(), Failure> {
    for item in items {
        ui.line(format!("{} {}: {}", if item.ok { "ok  " } else { "FAIL" }, item.name, item.detail))?;
        if let Some(hint) = item.hint.as_deref().filter(|_| !item.ok) {
            ui.line(format!("     next: {hint}"))?;
        }
    }
    Ok(())
}
