//! The command line: one file a command. It alone prints, prompts, reads the environment and decides exit
//! codes.
//!
//! `hook` and `worker` are looked for before the parser is built: a hook that Git calls must not pay for
//! the help texts of twenty commands.

mod allocator;
mod backfill;
mod calibrate;
mod config;
mod cost;
mod coverage;
mod docs;
mod doctor;
mod environment;
mod explain;
mod export;
mod failure;
mod filter;
mod flush;
mod follow;
mod hook;
mod import;
mod install;
mod labels;
mod outbox;
mod query;
mod reasons;
mod reconcile;
mod risk;
mod rules;
mod rules_bench;
mod session;
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
mod start;
mod status;
mod store;
mod ui;
mod verify;
mod worker;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::{ExitCode, Failure};
use gitops_agent::capture::{CaptureError, Repo};
use ui::Ui;

/// Records each commit's risk and its HIPAA and FDA relevance.
///
/// A Git hook queues a record of every commit on disk; a background process delivers it to Azure Cosmos
/// DB, or to an embedded local store when no account is set.
#[derive(Debug, Parser)]
#[command(name = "gitops-agent", bin_name = "gitops-agent", version, max_term_width = 100, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  gitops-agent install              put the hooks into this repository
  gitops-agent backfill             record the history of the current branch
  gitops-agent status               what is queued, held, refused, delivered
  gitops-agent explain HEAD         score a commit and say why
  gitops-agent query --tag HIPAA --since 2026-07-01 --min-risk 0.7

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or settings, 3 partly done (all kept),
4 access denied by the store (records held), 5 the local disk or database failed.";

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
struct Global {
    /// Say less: no progress, no notes.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more, on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// `--repo DIR`, shared by many commands.
#[derive(Args, Clone, Debug)]
struct RepoFlag {
    /// The repository; the one that Git would find from here unless given.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
}

impl RepoFlag {
    fn open(&self) -> Result<Repo, CaptureError> {
        self.repo.as_deref().map_or_else(Repo::open_from_env, Repo::open)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What Git calls: captures what the hook announces; always exits 0.
    #[command(override_usage = "gitops-agent hook <git-hook-name> [args]")]
    Hook {
        /// The hook's name and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Put the hooks into a repository, or into every repository of the user.
    #[command(after_help = install::INSTALL_EXAMPLES)]
    Install(install::InstallArgs),
    /// Take the hooks out again and leave every byte as it was.
    #[command(after_help = install::UNINSTALL_EXAMPLES)]
    Uninstall(install::InstallArgs),
    /// Record history: resumable, idempotent.
    Backfill(backfill::BackfillArgs),
    /// Fit the change risk to this repository's own history.
    Calibrate(calibrate::CalibrateArgs),
    /// Judge the risk score by your own labels.
    Risk(risk::RiskArgs),
    /// What is queued, held, refused and delivered.
    Status(status::StatusArgs),
    /// Deliver now, in the foreground.
    Flush(flush::FlushArgs),
    /// Score one commit and say why; stores nothing.
    Explain(explain::ExplainArgs),
    /// Read the store.
    Query(query::QueryArgs),
    /// Write a tenant's records out, one a line.
    Export(export::ExportArgs),
    /// Bring exported records into the store.
    Import(import::ImportArgs),
    /// Look into the queue and act on held and refused records.
    Outbox(outbox::OutboxArgs),
    /// The loaded rules: list them, test them.
    Rules(rules::RulesArgs),
    /// Compare history and store: what is missing, what was altered.
    Verify(verify::VerifyArgs),
    /// Create database and container, or test connection and permissions.
    Store(store::StoreArgs),
    /// Does it really work here.
    Doctor(doctor::DoctorArgs),
    /// What the store has charged, and what this repository will cost.
    Cost(cost::CostArgs),
    /// The settings in force.
    Config(config::ConfigArgs),
    /// Completions for a shell, on standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The manual page in roff, on standard output, or one page a command into a folder.
    Man {
        /// Write `gitops-agent*.1` into this folder.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Runs the process's command line.
pub(crate) fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some((name, rest)) = hook::announced(&arguments) {
        return hook::run(&name, rest);
    }
    environment::forbid_metadata_probe();
    if arguments.get(1).is_some_and(|first| first == worker::NAME) {
        return worker::run();
    }
    match parse(&arguments) {
        Ok(cli) => finish(dispatch(cli)),
        Err(error) => {
            // Help and version go to standard output with 0, everything else to standard error with 2.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}

/// The whole command with the version that names the rules.
fn command() -> clap::Command {
    let rules = gitops_agent::rules::RuleSet::builtin();
    let version = format!("{} (rules {})", env!("CARGO_PKG_VERSION"), rules.digest());
    Cli::command().version(version)
}

/// What `--version` prints.
fn version() -> String {
    command().render_version().trim().to_owned()
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let wants_version = arguments.iter().skip(1).any(|word| word == "--version" || word == "-V");
    let command = if wants_version { command() } else { Cli::command() };
    Cli::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    environment::start_logging(cli.global.verbose);
    let mut ui = Ui::new(cli.global.quiet);
    match cli.command {
        Command::Hook { arguments } => {
            let mut words = arguments.into_iter();
            let name = words.next().unwrap_or_default();
            Ok(hook::run(&name.to_string_lossy(), words.collect()))
        }
        Command::Install(args) => install::install(&args, &mut ui),
        Command::Uninstall(args) => install::uninstall(&args, &mut ui),
        Command::Backfill(args) => backfill::run(&args, &mut ui),
        Command::Calibrate(args) => calibrate::run(&args, &mut ui),
        Command::Risk(args) => risk::run(&args, &mut ui),
        Command::Status(args) => status::run(&args, &mut ui),
        Command::Flush(args) => flush::run(&args, &mut ui),
        Command::Explain(args) => explain::run(&args, &mut ui),
        Command::Query(args) => query::run(&args, &mut ui),
        Command::Export(args) => export::run(&args, &mut ui),
        Command::Import(args) => import::run(&args, &mut ui),
        Command::Outbox(args) => outbox::run(&args, &mut ui),
        Command::Rules(args) => rules::run(&args, &mut ui),
        Command::Verify(args) => verify::run(&args, &mut ui),
        Command::Store(args) => store::run(&args, &mut ui),
        Command::Doctor(args) => doctor::run(&args, &mut ui),
        Command::Cost(args) => cost::run(&args, &mut ui),
        Command::Config(args) => config::run(&args, &mut ui),
        Command::Completions { shell } => docs::completions(shell, &mut ui),
        Command::Man { out } => docs::man(out.as_deref(), &mut ui),
    }
}

fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code()
        }
    }
}

/// A folder as people should see it.
fn shown(path: &Path) -> String {
    ui::safe(&path.to_string_lossy())
}
