//! Which class, tenant and store, where each comes from, and who does not see them.

use gitops_agent::capture::Repo;
use gitops_agent::config::{ConfigError, Origin, Settings};
use gitops_agent::destination::Destination;
use gitops_agent::inferred::Inferred;
use gitops_agent::rules;

use super::super::environment;
use super::super::session::{InForce, Session};
use super::Findings;

/// How to set the class; `install` says the same.
pub(in crate::cli) const SET_CLASS: &str = "`git config gitops-agent.class records` here (or device, ehr, other), or `class = \"records\"` in config.toml";

pub(super) fn look(session: &Session, repo: Option<&Repo>, problems: &[ConfigError], found: &mut Findings) {
    let settings = &session.settings;
    for problem in problems {
        found.failed(
            "settings",
            format!("{problem}; nothing is recorded or delivered like this"),
            "mend or remove the value where it was set; `gitops-agent config show --origin` lists all",
        );
    }
    if problems.is_empty() {
        found.ok("settings", "all can be used; `gitops-agent config show --origin` lists them");
    }
    if !settings.enabled.value {
        found.failed(
            "switch",
            format!("this repository is switched off by {}: nothing is recorded", settings.enabled.origin),
            "git config --unset gitops-agent.enabled",
        );
    }
    match session.rules_in_force() {
        Ok(InForce { rules, broken: None }) => {
            found.ok("rules", format!("{} rules, digest {}", rules.rules().count(), rules.digest()));
        }
        Ok(InForce { broken: Some(broken), .. }) => found.failed(
            "rules",
            format!("{}; until this is mended, hooks judge by {}", broken.error, broken.instead()),
            "`gitops-agent rules check --rules DIR` shows what is wrong",
        ),
        Err(failure) => found.failed(
            "rules",
            format!("{}; commits are noted and judged once this is mended", failure.line()),
            "`gitops-agent rules check --rules DIR` shows what is wrong",
        ),
    }
    class(settings, repo, found);
    tenant(settings, found);
    destination(settings, found);
}

fn class(settings: &Settings, repo: Option<&Repo>, found: &mut Findings) {
    if let Some(class) = &settings.class {
        return found.ok("class", format!("{} ({})", class.value, class.origin));
    }
    let carried = repo.and_then(|repo| repo.carried(&repo.head().ok()??).ok()?);
    let carried = carried.as_deref().and_then(rules::carried_class);
    let inferred = || {
        let repo = repo?;
        let inferred = Inferred::default();
        inferred.look_closely(repo);
        inferred.class(repo, &repo.head().ok()??)
    };
    let inferred = inferred();
    let told = inferred.as_ref().map(|inferred| inferred.class);
    match (carried.filter(|carried| carried.stands_beside(told)), inferred) {
        (Some(carried), _) => found.ok("class", format!("{carried} (.gitops-agent.toml in HEAD)")),
        (None, Some(inferred)) => found.warning(
            "class",
            format!(
                "seems to be {} ({}); nobody has confirmed it",
                inferred.class,
                inferred.reasons.join(", ")
            ),
            format!("git config gitops-agent.class {}", inferred.class),
        ),
        (None, None) if repo.is_some() => found.warning(
            "class",
            "unknown: rules for one kind of software (device, records, ehr) do not apply",
            SET_CLASS,
        ),
        (None, None) => {}
    }
}

fn tenant(settings: &Settings, found: &mut Findings) {
    let item = super::super::store::tenant(settings);
    match item.hint {
        Some(hint) => found.failed("tenant", item.detail, hint),
        None => found.ok("tenant", item.detail),
    }
}

fn destination(settings: &Settings, found: &mut Findings) {
    let place = &settings.destination;
    found.ok("store", format!("{} ({})", place.value, place.origin));
    let mut hidden = Vec::new();
    for (what, origin) in [("the store", &place.origin), ("the tenant", &settings.tenant.origin)] {
        if let Origin::Environment(name) = origin {
            hidden.push(format!("{what} ({name})"));
        }
    }
    let cosmos = matches!(place.value, Destination::Cosmos { .. });
    if cosmos && environment::variable("COSMOS_KEY").is_some() {
        hidden.push("the account key (COSMOS_KEY)".to_owned());
    }
    if !hidden.is_empty() {
        found.warning(
            "store-visibility",
            format!(
                "only the environment names {}: a GUI that was not started from this shell does not see it, and its commits go elsewhere or wait",
                hidden.join(" and ")
            ),
            "put tenant and [store] endpoint into config.toml (`gitops-agent config show` says where); instead of a key, sign in with Entra ID",
        );
    }
}
