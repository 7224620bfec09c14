//! The settings although some are wrong: for the commands that tell what is wrong.

use super::{ConfigError, Layers, Origin, Paths, Settings, Sources, file};

/// The settings as they would be without the wrong values, and these.
#[derive(Debug)]
pub struct Survey {
    /// What the remaining values give.
    pub settings: Settings,
    /// Each wrong value, and a settings file that cannot be read.
    pub problems: Vec<ConfigError>,
}

impl Settings {
    /// As [`Settings::load`], but a wrong value is put on a list and taken out instead of ending everything.
    /// Never for recording: there a wrong setting must not be passed over.
    #[must_use]
    pub fn survey(paths: Option<&Paths>, sources: &Sources) -> Survey {
        let mut problems = Vec::new();
        let mut sources = sources.clone();
        let mut file = match paths.map(|paths| file::read(&paths.config_file())).transpose() {
            Ok(file) => file.flatten(),
            Err(error) => {
                problems.push(error);
                None
            }
        };
        loop {
            match (Layers { file: file.clone(), sources: &sources }).settle() {
                Ok(settings) => return Survey { settings, problems },
                Err(error) => {
                    // Each round takes one value out, so this ends: at the latest with nothing but defaults.
                    if !take_out(&error, file.as_mut().map(|(_, file)| file), &mut sources) {
                        file = None;
                        sources = Sources::default();
                    }
                    problems.push(error);
                }
            }
        }
    }
}

/// Takes the value that the error names out of where it was set; false where that is nowhere.
fn take_out(error: &ConfigError, file: Option<&mut file::File>, sources: &mut Sources) -> bool {
    let ConfigError::Value { name, origin, .. } = error else { return false };
    match origin {
        Origin::Environment(variable) => sources.environment.remove(*variable).is_some(),
        Origin::Git(_) => {
            let short = name.strip_prefix("gitops-agent.").unwrap_or(name);
            let key = format!("gitops-agent.{short}");
            let last = sources.git.iter().rposition(|found| found.key.eq_ignore_ascii_case(&key));
            last.map(|at| sources.git.remove(at)).is_some()
        }
        Origin::File(_) => file.is_some_and(|file| clear(file, name)),
        Origin::BuiltIn | Origin::Flag(_) | Origin::Derived(_) => false,
    }
}

fn clear(file: &mut file::File, name: &str) -> bool {
    match name {
        "tenant" => file.tenant.take().is_some(),
        "class" => file.class.take().is_some(),
        "retention_days" => file.retention_days.take().is_some(),
        "store.kind" => file.store.kind.take().is_some(),
        "store.endpoint" => file.store.endpoint.take().is_some(),
        "store.database" => file.store.database.take().is_some(),
        "store.container" => file.store.container.take().is_some(),
        "store.budget_ru" => file.store.budget_ru.take().is_some(),
        "store.credential" => file.store.credential.take().is_some(),
        "privacy.author" => file.privacy.author.take().is_some(),
        "risk.medium, risk.high" => {
            let set = file.risk.medium.is_some() || file.risk.high.is_some();
            file.risk = file::Risk::default();
            set
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::super::GitKey;
    use super::*;

    #[test]
    fn every_wrong_value_is_named_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("config.toml"),
            "tenant = 'a/b'\nclass = 'x'\nretention_days = 0\n[store]\nkind = 'disk'\nendpoint = 'ftp://a'\n\
             credential = 'c'\n[privacy]\nauthor = 'secret'\n[risk]\nmedium = 2.0\n",
        )
        .unwrap();
        let paths = Paths::find(Some(folder.path()));
        let mut sources = Sources::default();
        sources.environment.insert("COSMOS_DATABASE".into(), "a/b".into());
        sources.environment.insert("GITOPS_AGENT_TENANT".into(), "a b".into());
        for (key, value) in [("tenant", "good"), ("enabled", "perhaps"), ("class", "y")] {
            let key = format!("gitops-agent.{key}");
            sources.git.push(GitKey { key, value: value.into(), origin: "git config (local)".into() });
        }
        let survey = Settings::survey(paths.as_ref(), &sources);
        let names: Vec<&str> = survey
            .problems
            .iter()
            .map(|problem| match problem {
                ConfigError::Value { name, .. } => *name,
                ConfigError::File { .. } => "file",
            })
            .collect();
        assert_eq!(
            names,
            [
                "tenant",
                "class",
                "class",
                "retention_days",
                "store.credential",
                "privacy.author",
                "gitops-agent.enabled",
                "store.kind",
                "store.endpoint",
                "risk.medium, risk.high"
            ]
        );
        assert_eq!(survey.settings.tenant.value, "good");
        std::fs::write(folder.path().join("config.toml"), "tenant = [").unwrap();
        let survey = Settings::survey(paths.as_ref(), &sources);
        assert!(matches!(survey.problems[0], ConfigError::File { .. }));
        assert_eq!(survey.settings.tenant.value, "good");
    }
}
