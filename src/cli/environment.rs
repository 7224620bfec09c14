//! The one place that reads the environment.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use gitops_agent::config::Paths;

/// The variables that are settings.
const SETTINGS: &[&str] = &[
    "GITOPS_AGENT_TENANT",
    "GITOPS_AGENT_STORE",
    "GITOPS_AGENT_CLASS",
    "GITOPS_AGENT_RULES",
    "GITOPS_AGENT_RETENTION_DAYS",
    "GITOPS_AGENT_CREDENTIAL",
    "COSMOS_ENDPOINT",
    "COSMOS_DATABASE",
    "COSMOS_CONTAINER",
];

/// The settings among the environment's variables; bytes that are not UTF-8 are replaced, and then
/// refused by the setting's own check.
pub(super) fn settings() -> BTreeMap<String, String> {
    SETTINGS
        .iter()
        .filter_map(|name| {
            std::env::var_os(name).map(|value| ((*name).to_owned(), value.to_string_lossy().into_owned()))
        })
        .collect()
}

/// A variable that is set and not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The agent's folders; `None` where the user has no home.
pub(super) fn paths() -> Option<Paths> {
    let root = std::env::var_os("GITOPS_AGENT_HOME").filter(|root| !root.is_empty()).map(PathBuf::from);
    // The worker does not stay in this folder.
    let root = root.map(|root| std::path::absolute(&root).unwrap_or(root));
    Paths::find(root.as_deref())
}

/// `GITOPS_AGENT=0` switches the hooks off for a command.
pub(super) fn switched_off() -> bool {
    variable("GITOPS_AGENT").is_some_and(|value| matches!(value.as_str(), "0" | "false" | "off" | "no"))
}

/// Keeps the Azure SDK from asking the cloud's metadata address for its telemetry: it would wait up to two
/// seconds for an answer where there is none, and the contract forbids the guess.
#[expect(unsafe_code, reason = "changing the environment is unsafe once there are threads")]
pub(super) fn forbid_metadata_probe() {
    // SAFETY: nearly the first thing that the process does; there is no other thread yet.
    unsafe { std::env::set_var("COSMOS_DISABLE_IMDS", "1") };
}

/// Logs to standard error: warnings, or more by `-v`, or what `GITOPS_AGENT_LOG` says.
pub(super) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "gitops_agent=info,warn",
        _ => "gitops_agent=debug,azure_data_cosmos=debug,info",
    };
    let filter = variable("GITOPS_AGENT_LOG")
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| tracing_subscriber::EnvFilter::new(level));
    // A second subscriber in one process would be a programming error, and is harmless.
    let colour = std::io::stderr().is_terminal() && variable("NO_COLOR").is_none();
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = logger.with_ansi(colour).try_init();
}
