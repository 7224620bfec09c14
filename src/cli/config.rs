//! `config show`.

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::config::{ConfigError, Declarations, Origin, Settings};
use gitops_agent::destination::Destination;
use gitops_agent::record::Privacy;
use serde_json::{Map, Value, json};

use super::environment;
use super::failure::{ExitCode, Failure, USAGE};
use super::session::Session;
use super::ui::Ui;

/// The settings in force.
#[derive(clap::Args, Debug)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(clap::Subcommand, Debug)]
enum ConfigCommand {
    /// Print the settings in force; secrets are never printed.
    Show {
        /// Where each came from.
        #[arg(long)]
        origin: bool,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &ConfigArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let ConfigCommand::Show { origin, json } = args.command;
    let repo = match Repo::open_from_env() {
        Ok(repo) => Some(repo),
        Err(CaptureError::NotARepository { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let (session, problems) = Session::survey(repo.as_ref())?;
    let wrong: Vec<Wrong> = problems.iter().map(Wrong::of).collect();
    let rows = rows(&session.settings);
    if json {
        print_json(rows, &wrong, ui)?;
    } else {
        let paths = session.paths()?;
        ui.line(format!(
            "# {} · data in {}",
            super::shown(&paths.config_file()),
            super::shown(paths.data())
        ))?;
        for row in rows.into_iter().filter(|row| !wrong.iter().any(|wrong| wrong.is(row.0))) {
            let (name, value, from) = row;
            let origin = if origin { format!("  # {from}") } else { String::new() };
            ui.line(format!("{name} = {value}{origin}"))?;
        }
        for wrong in &wrong {
            ui.line(format!(
                "{} = {}  # WRONG, {}: {}",
                wrong.name, wrong.value, wrong.origin, wrong.problem
            ))?;
        }
    }
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    ui.note("nothing is recorded or delivered with wrong settings: mend or remove each where it was set");
    Ok(ExitCode::from(USAGE))
}

fn print_json(rows: Vec<Row>, wrong: &[Wrong], ui: &mut Ui) -> Result<(), Failure> {
    let mut object: Map<String, Value> = rows
        .into_iter()
        .map(|(name, value, from)| (name.to_owned(), json!({ "value": value, "origin": from })))
        .collect();
    for wrong in wrong {
        let row = json!({ "value": wrong.value, "origin": wrong.origin, "problem": wrong.problem });
        object.insert(wrong.name.to_owned(), row);
    }
    Ok(ui.json(&object)?)
}

type Row = (&'static str, String, String);

/// A value that cannot be used, as a row.
struct Wrong {
    name: &'static str,
    value: String,
    origin: String,
    problem: String,
}

impl Wrong {
    fn of(error: &ConfigError) -> Self {
        match error {
            ConfigError::Value { name, value, origin, problem } => Self {
                name: name.strip_prefix("gitops-agent.").unwrap_or(name),
                value: value.clone(),
                origin: origin.to_string(),
                problem: problem.clone(),
            },
            ConfigError::File { path, problem } => Self {
                name: "config.toml",
                value: "(not readable)".to_owned(),
                origin: super::shown(path),
                problem: problem.clone(),
            },
        }
    }

    fn is(&self, row: &str) -> bool {
        self.name.split(", ").any(|name| name == row)
    }
}

fn rows(settings: &Settings) -> Vec<Row> {
    let unset = || ("(not set)".to_owned(), Origin::BuiltIn.to_string());
    let row = |name, value: String, origin: &Origin| (name, value, origin.to_string());
    let place = &settings.destination;
    let (class, class_origin) = settings
        .class
        .as_ref()
        .map_or_else(unset, |class| (class.value.to_string(), class.origin.to_string()));
    let (rules, rules_origin) = settings
        .rules
        .as_ref()
        .map_or_else(unset, |rules| (rules.value.display().to_string(), rules.origin.to_string()));
    let (budget, budget_origin) = settings
        .budget_ru
        .as_ref()
        .map_or_else(unset, |budget| (budget.value.to_string(), budget.origin.to_string()));
    let mut rows = vec![
        row("tenant", settings.tenant.value.clone(), &settings.tenant.origin),
        row("store.kind", place.value.kind().to_owned(), &place.origin),
    ];
    if let Destination::Cosmos { endpoint, database, container } = &place.value {
        rows.push(row("store.endpoint", endpoint.clone(), &place.origin));
        rows.push(row("store.database", database.clone(), &place.origin));
        rows.push(row("store.container", container.clone(), &place.origin));
    }
    rows.extend([
        row("store.credential", settings.credential.value.to_string(), &settings.credential.origin),
        account_key(),
        ("store.budget_ru", budget, budget_origin),
        ("class", class, class_origin),
        ("rules", rules, rules_origin),
        row("retention_days", settings.retention_days.value.to_string(), &settings.retention_days.origin),
        row(
            "declarations",
            declarations(settings.declarations.value).to_owned(),
            &settings.declarations.origin,
        ),
        row("privacy.author", privacy(settings.privacy.value).to_owned(), &settings.privacy.origin),
        row("risk.medium", settings.thresholds.value.medium.to_string(), &settings.thresholds.origin),
        row("risk.high", settings.thresholds.value.high.to_string(), &settings.thresholds.origin),
        row("enabled", settings.enabled.value.to_string(), &settings.enabled.origin),
    ]);
    rows
}

/// Whether there is a key, never the key.
fn account_key() -> Row {
    match environment::variable("COSMOS_KEY") {
        Some(_) => ("account key", "(set)".to_owned(), Origin::Environment("COSMOS_KEY").to_string()),
        None => ("account key", "(not set)".to_owned(), Origin::BuiltIn.to_string()),
    }
}

fn declarations(declarations: Declarations) -> &'static str {
    match declarations {
        Declarations::Optional => "optional",
        Declarations::Required => "required",
    }
}

fn privacy(privacy: Privacy) -> &'static str {
    match privacy {
        Privacy::Plain => "plain",
        Privacy::Hash => "hash",
    }
}
