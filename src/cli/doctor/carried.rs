//! What the repository's own `.gitops-agent.toml` tries. It is somebody else's input: it may describe the
//! repository and add rules, never choose where records go, for how long, or what is looked at.

use gitops_agent::capture::Repo;
use gitops_agent::config::Settings;
use gitops_agent::rules::{self, RuleSet};

use super::super::ui;
use super::Findings;

const FILE: &str = ".gitops-agent.toml";

/// Words of keys that a repository has no say in, and what each would do.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tenant", "choose the tenant"),
    ("store", "choose the store"),
    ("endpoint", "choose the store"),
    ("database", "choose the store"),
    ("container", "choose the store"),
    ("credential", "choose the credentials"),
    ("credentials", "choose the credentials"),
    ("key", "choose the credentials"),
    ("retention", "choose the retention"),
    ("retention_days", "choose the retention"),
    ("ttl", "choose the retention"),
    ("privacy", "choose how people are named"),
    ("risk", "choose the thresholds"),
    ("enabled", "switch the agent off"),
    ("disable", "switch rules off"),
    ("disabled", "switch rules off"),
    ("disable_rules", "switch rules off"),
    ("ignore", "switch rules off"),
    ("skip", "switch rules off"),
    ("off", "switch rules off"),
];

/// `in_force` are the packs whose citations carried rules may use.
pub(super) fn look(repo: &Repo, settings: &Settings, in_force: Option<&RuleSet>, found: &mut Findings) {
    let Ok(Some(head)) = repo.head() else { return };
    let bytes = match repo.carried(&head) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return found.ok("carried", format!("HEAD carries no {FILE} that is read (at most 64 KiB)"));
        }
        Err(error) => return found.warning("carried", error.to_string(), "git fsck"),
    };
    let tried = match tried(&bytes) {
        Ok(tried) => tried,
        Err(problem) => {
            return found.warning(
                "carried",
                format!("{FILE} in HEAD is ignored: {problem}"),
                format!("mend {FILE}, or remove it"),
            );
        }
    };
    let class = rules::carried_class(&bytes)
        .filter(|carried| settings.class.as_ref().is_some_and(|set| set.value != *carried));
    let (added, problems) = in_force.map(|rules| rules.carried_rules(&bytes)).unwrap_or_default();
    if tried.is_empty() && class.is_none() && problems.is_empty() {
        let added =
            if added == 0 { String::new() } else { format!(", and adds {}", ui::count(added, "rule")) };
        return found.ok("carried", format!("{FILE} in HEAD tries nothing that it may not{added}"));
    }
    for problem in problems {
        found.warning(
            "carried",
            format!("{problem}; this counts as not there"),
            format!("mend {FILE}; `gitops-agent rules check` runs the examples of carried rules"),
        );
    }
    for (key, what) in tried {
        found.warning(
            "carried",
            format!("{FILE} in HEAD tries to {what} ({key}); this is ignored"),
            format!("remove {key} from {FILE}, and ask who put it there: `git log -- {FILE}`"),
        );
    }
    if let Some(class) = class {
        found.warning(
            "carried",
            format!("{FILE} in HEAD gives the class {class}, but another is set; the set one counts"),
            "gitops-agent config show --origin",
        );
    }
}

/// Every forbidden key, with its whole path, and what it would do; in the file's order of tables.
fn tried(bytes: &[u8]) -> Result<Vec<(String, &'static str)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let table: toml::Table =
        toml::from_str(text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
    let mut found = Vec::new();
    for (key, value) in &table {
        if let Some(what) = meaning(key) {
            found.push((key.clone(), what));
        } else if let Some(inner) = value.as_table() {
            // `[rules] disable = […]`. Rules that are added are tables in a list, and their keys are theirs.
            let inner = inner.keys().filter_map(|name| Some((format!("{key}.{name}"), meaning(name)?)));
            found.extend(inner);
        }
    }
    Ok(found)
}

fn meaning(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    FORBIDDEN.iter().find(|(word, _)| *word == key).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_repository_may_not_say_is_found_wherever_it_says_it() {
        let text = "class = 'device'\ntenant = 'mine'\nretention-days = 1\n[store]\nendpoint = 'x'\n\
                    [rules]\ndisable = ['a']\n[allow]\npaths = ['x']\n[[rule]]\nkey = 'theirs'\n";
        let found = tried(text.as_bytes()).expect("TOML");
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["retention-days", "rules.disable", "store", "tenant"]);
        assert!(tried(b"class = 'ehr'\n").expect("TOML").is_empty());
        assert!(tried(b"[").is_err() && tried(b"\xff").is_err());
    }
}
