use super::*;

fn sources(pairs: &[(&str, &str)]) -> Sources {
    Sources {
        environment: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Sources::default()
    }
}

fn with_file(text: &str, sources: &Sources) -> Result<Settings, ConfigError> {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(home.path().join("config.toml"), text).expect("config.toml");
    Settings::load(Paths::find(Some(home.path())).as_ref(), sources)
}

#[test]
fn nothing_set_means_the_local_store_and_seven_years() {
    let settings = Settings::load(None, &Sources::default()).expect("defaults");
    assert_eq!(settings.destination.value, Destination::Local);
    assert_eq!(settings.tenant.value, "local");
    assert_eq!(settings.ttl(), 220_924_800);
    assert_eq!(settings.hold(), None);
}

#[test]
fn later_layers_win_and_say_so() {
    let mut layers = sources(&[]);
    let settings = with_file("tenant = 'file'\nclass = 'device'", &layers).expect("settings");
    assert_eq!(settings.tenant.value, "file");
    layers.git = vec![
        GitKey { key: "gitops-agent.tenant".into(), value: "global".into(), origin: "global".into() },
        GitKey { key: "gitops-agent.tenant".into(), value: "repo".into(), origin: "local".into() },
    ];
    let settings = with_file("tenant = 'file'", &layers).expect("settings");
    assert_eq!(
        (settings.tenant.value.as_str(), settings.tenant.origin),
        ("repo", Origin::Git("local".into()))
    );
    layers.environment.insert("GITOPS_AGENT_TENANT".into(), "env".into());
    let settings = with_file("tenant = 'file'", &layers).expect("settings");
    assert_eq!(settings.tenant.value, "env");
    assert_eq!(settings.tenant.origin, Origin::Environment("GITOPS_AGENT_TENANT"));
}

#[test]
fn an_endpoint_makes_the_store_cosmos_and_asks_for_a_tenant() {
    let settings = Settings::load(None, &sources(&[("COSMOS_ENDPOINT", "https://a.documents.azure.com")]))
        .expect("settings");
    assert_eq!(
        settings.destination.value,
        Destination::Cosmos {
            endpoint: "https://a.documents.azure.com/".into(),
            database: "gitops".into(),
            container: "commits".into()
        }
    );
    assert!(settings.hold().is_some());
    let settings = Settings::load(
        None,
        &sources(&[("COSMOS_ENDPOINT", "http://127.0.0.1:8081"), ("GITOPS_AGENT_STORE", "local")]),
    )
    .expect("settings");
    assert_eq!(settings.destination.value, Destination::Local);
}

#[test]
fn bad_values_are_named_with_origin_and_remedy() {
    let cases = [
        ("GITOPS_AGENT_TENANT", "a b", "1 to 64"),
        ("GITOPS_AGENT_TENANT", "x\u{7}", "\\u{7}"),
        ("GITOPS_AGENT_CLASS", "hospital", "`device`"),
        ("GITOPS_AGENT_RETENTION_DAYS", "0", "whole number"),
        ("GITOPS_AGENT_RETENTION_DAYS", "7y", "whole number"),
        ("GITOPS_AGENT_STORE", "mongo", "`local` or `cosmos`"),
        ("GITOPS_AGENT_STORE", "cosmos", "endpoint"),
        ("COSMOS_ENDPOINT", "http://example.com", "https"),
        ("COSMOS_ENDPOINT", "https://u:p@example.com", "COSMOS_KEY"),
        ("COSMOS_ENDPOINT", "example.com", "URL"),
        ("GITOPS_AGENT_CREDENTIAL", "magic", "`workload`"),
    ];
    for (name, value, expected) in cases {
        let error = Settings::load(None, &sources(&[(name, value)])).expect_err(value).to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
}

#[test]
fn a_broken_file_is_named_with_its_line() {
    for (text, expected) in [
        ("tenant = ", "line 1"),
        ("\ntenantt = 'x'", "line 2"),
        ("[risk]\nmedium = 0.9\nhigh = 0.2", "medium < high"),
        ("retention_days = 'x'", "retention_days"),
    ] {
        let error = with_file(text, &Sources::default()).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("config.toml"), "{error}");
    }
}

#[test]
fn a_relative_rules_folder_is_beside_the_file() {
    let settings = with_file("rules = 'packs'", &Sources::default()).expect("settings");
    let rules = settings.rules.expect("rules");
    let Origin::File(file) = &rules.origin else { panic!("origin {:?}", rules.origin) };
    assert_eq!(rules.value, file.parent().expect("folder").join("packs"));
}
