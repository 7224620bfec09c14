//! `infra/` without a subscription: what the templates say of the container beside what `store init` makes, the
//! role and the outputs as they are written, `deploy.sh` with a stand-in for the Azure CLI. Where a Bicep
//! compiler is on PATH, the templates are compiled with it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "stores/emulator.rs"]
mod emulator;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use azure_data_cosmos::{AccountReference, CosmosClient, RoutingStrategy};
use emulator::{Emulator, KEY};
use gitops_agent::store::Store as _;
use serde_json::{Value, json};

fn infra() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("infra")
}

/// Every template, comments taken out.
fn templates() -> Vec<(PathBuf, String)> {
    let folders = [infra(), infra().join("modules")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let templates: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "bicep"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            (path, lines.collect::<Vec<_>>().join("\n"))
        })
        .collect();
    assert!(templates.len() > 5, "{templates:?}");
    templates
}

fn template(name: &str) -> String {
    templates().into_iter().find(|(path, _)| path.ends_with(name)).unwrap().1
}

/// The lines of the block that `opening` begins, up to the brace or bracket that closes it.
fn block<'a>(text: &'a str, opening: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| line.trim() != opening);
    let indent = lines.next().unwrap_or_else(|| panic!("{opening:?} is missing")).find(|c| c != ' ').unwrap();
    lines.take_while(|line| line.find(|c| c != ' ').unwrap_or(usize::MAX) > indent).map(str::trim).collect()
}

/// The container as the service shows it to a client that shares nothing with the store's own code.
async fn made_by_init(emulator: &Emulator) -> Value {
    emulator.store().init().await.unwrap();
    let account =
        AccountReference::with_authentication_key(emulator.endpoint().parse().unwrap(), KEY.to_owned());
    let regions = RoutingStrategy::PreferredRegions(Vec::new());
    let client = CosmosClient::builder().build(account, regions).await.unwrap();
    let database = client.database_client("gitops".to_owned());
    let container = database.container_client("commits".to_owned(), None).await.unwrap();
    let properties = container.read(None).await.unwrap().into_model().unwrap();
    serde_json::to_value(properties).unwrap()
}

#[tokio::test]
async fn the_template_and_init_make_the_same_container() {
    let emulator = Emulator::start(&[]);
    let made = made_by_init(&emulator).await;
    let shape: Value =
        serde_json::from_str(&std::fs::read_to_string(infra().join("container.json")).unwrap()).unwrap();

    // The template takes each property from the file and sets no other.
    let text = template("modules/container.bicep");
    assert!(text.contains("var shape = loadJsonContent('../container.json')"), "{text}");
    let container = text.split("resource container ").nth(1).unwrap();
    let set: BTreeSet<&str> = block(container, "resource: {").into_iter().collect();
    let expected = [
        "id: containerName",
        "partitionKey: shape.partitionKey",
        "defaultTtl: shape.defaultTtl",
        "indexingPolicy: shape.indexingPolicy",
    ];
    assert_eq!(set, BTreeSet::from(expected));

    // Each property of the file is as `store init` made it, and beside it only what the service adds by itself,
    // to a container of a template as well.
    let mut own = made.as_object().unwrap().clone();
    own.retain(|name, _| !name.starts_with('_') && name != "id");
    assert_eq!(own.remove("geospatialConfig"), Some(json!({"type": "Geography"})));
    assert_eq!(own.remove("conflictResolutionPolicy").unwrap()["mode"], "LastWriterWins");
    assert_eq!(Value::Object(own), shape);
    assert_eq!(
        shape["partitionKey"],
        json!({"paths": ["/tenantId", "/commitDate"], "kind": "MultiHash", "version": 2})
    );
    assert_eq!(shape["defaultTtl"], 220_924_800);
}

#[test]
fn the_writers_role_cannot_delete() {
    let text = template("modules/access.bicep");
    let role = |name: &str| {
        let role = text.split(&format!("resource {name} ")).nth(1).unwrap();
        let actions = block(role, "dataActions: [").into_iter();
        let short =
            |action: &str| action.trim_matches('\'').rsplit("databaseAccounts/").next().unwrap().to_owned();
        actions.map(short).collect::<BTreeSet<String>>()
    };
    let items = "sqlDatabases/containers/items/";
    let of = |names: &[&str]| {
        let items = names.iter().map(|name| format!("{items}{name}"));
        items
            .chain(["readMetadata".to_owned(), "sqlDatabases/containers/executeQuery".to_owned()])
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(role("writer"), of(&["create", "read", "replace"]));
    assert_eq!(role("reader"), of(&["read"]));
    assert!(!text.contains('*'), "a wildcard grants more than is written");
}

#[test]
fn no_key_leaves_the_templates() {
    for (path, text) in templates() {
        for word in ["listKeys", "listConnectionStrings", "MasterKey", "connectionString", "@secure"] {
            assert!(!text.to_lowercase().contains(&word.to_lowercase()), "{}: {word}", path.display());
        }
    }
    let outputs: Vec<String> = template("main.bicep")
        .lines()
        .filter_map(|line| line.strip_prefix("output "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(outputs, ["endpoint", "database", "container", "account", "identityClientId"]);
}

#[test]
fn the_account_is_closed_unless_somebody_opens_it() {
    let account = template("modules/account.bicep");
    for line in [
        "disableLocalAuth: !allowKeys",
        "publicNetworkAccess: empty(allowedAddresses) ? 'Disabled' : 'Enabled'",
        "minimalTlsVersion: 'Tls12'",
        "disableKeyBasedMetadataWriteAccess: true",
        "defaultConsistencyLevel: 'Session'",
        "enableAutomaticFailover: twoRegions",
        "type: 'Continuous'",
    ] {
        assert!(account.lines().any(|found| found.trim() == line), "{line}");
    }
    let main = template("main.bicep");
    assert!(
        main.contains("param allowKeys bool = false") && main.contains("param allowedAddresses array = []")
    );
    // No environment that is shipped opens it either.
    for name in ["dev", "prod"] {
        let file = infra().join(format!("environments/{name}.json"));
        let file: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let parameters = file["parameters"].as_object().unwrap();
        for (parameter, value) in parameters {
            assert!(main.contains(&format!("\nparam {parameter} ")), "{name}: {parameter} is no parameter");
            assert!(value.as_object().unwrap().keys().eq(["value"]), "{name}: {parameter}");
        }
        assert!(!parameters.contains_key("allowKeys"));
        assert_eq!(parameters["allowedAddresses"]["value"], json!([]));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
fn the_templates_compile_where_there_is_a_compiler() {
    let found = Command::new("bicep").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no `bicep` on PATH; checkov's parser is what reads the templates in CI");
        return;
    }
    let main = infra().join("main.bicep");
    let output = Command::new("bicep").args(["build", "--stdout"]).arg(main).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compiled: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(compiled["resources"].as_array().is_some_and(|resources| !resources.is_empty()));
}

/// `deploy.sh` with a stand-in for `az` that notes each call, one line each.
struct Cloud {
    folder: tempfile::TempDir,
}

impl Cloud {
    /// `answers` is shell, run after the call was noted; `$*` is the call.
    fn new(answers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let az = folder.path().join("az");
        std::fs::write(
            &az,
            format!("#!/bin/sh\necho \"$*\" >>'{}/calls'\n{answers}\n", folder.path().display()),
        )
        .unwrap();
        std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.arg(infra().join("deploy.sh")).args(arguments).env_clear().current_dir(self.folder.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().display()));
        command.output().unwrap()
    }

    /// The calls so far; the next list begins anew.
    fn calls(&self) -> Vec<String> {
        let file = self.folder.path().join("calls");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        text.lines().map(|line| line.replace(infra().to_str().unwrap(), "INFRA")).collect()
    }
}

/// A subscription in which the group may be there, and a deployment that succeeds.
const SUBSCRIPTION: &str = r#"
here=$(dirname "$0")
case $* in
"account show"*) echo sub-1 ;;
"group exists"*) if [ -f "$here/group" ]; then echo true; else echo false; fi ;;
"group create"*) touch "$here/group" ;;
*outputs.endpoint.*) echo https://gitops-dev-x.documents.azure.com:443/ ;;
*outputs.database.*) echo gitops ;;
*outputs.container.*) echo commits ;;
*outputs.identityClientId.*) echo 11111111-2222-3333-4444-555555555555 ;;
esac"#;

const DEPLOY: &str = "--subscription sub-1 --resource-group gitops-agent-dev --template-file INFRA/main.bicep --parameters @INFRA/environments/dev.json --parameters environment=dev location=westeurope";

#[test]
fn deploy_is_repeatable_and_ends_with_the_settings() {
    let cloud = Cloud::new(SUBSCRIPTION);
    let arguments = ["--environment", "dev", "--location", "westeurope"];
    let first = cloud.run(&arguments);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let calls = cloud.calls();
    let create =
        format!("deployment group create --name gitops-agent --mode Incremental {DEPLOY} --output none");
    assert_eq!(
        calls[..4],
        [
            "account show --query id --output tsv".to_owned(),
            "group exists --name gitops-agent-dev --subscription sub-1".to_owned(),
            "group create --name gitops-agent-dev --location westeurope --subscription sub-1 --output none"
                .to_owned(),
            create.clone(),
        ]
    );
    assert!(calls[4..].iter().all(|call| call.starts_with("deployment group show ")), "{calls:?}");

    let printed = String::from_utf8(first.stdout.clone()).unwrap();
    // What it prints is a settings file that the agent reads.
    let toml = printed.split("\n# or in").next().unwrap();
    let home = cloud.folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), toml.replace("YOUR-TENANT", "clinic-a")).unwrap();
    let shown = Command::new(env!("CARGO_BIN_EXE_gitops-agent"))
        .args(["config", "show", "--json"])
        .env_clear()
        .env("GITOPS_AGENT_HOME", &home)
        .env("GIT_CEILING_DIRECTORIES", "/")
        .current_dir(&home)
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["store.endpoint"]["value"], "https://gitops-dev-x.documents.azure.com:443/");
    assert_eq!(
        (&shown["store.kind"]["value"], &shown["tenant"]["value"]),
        (&json!("cosmos"), &json!("clinic-a"))
    );
    assert!(printed.contains("export AZURE_CLIENT_ID=11111111-2222-3333-4444-555555555555\n"), "{printed}");
    assert!(printed.ends_with("gitops-agent store check\n"), "{printed}");

    // Again: the group is left alone, the rest is the same.
    let second = cloud.run(&arguments);
    assert_eq!(second.stdout, first.stdout);
    let again = cloud.calls();
    assert!(!again.iter().any(|call| call.starts_with("group create")), "{again:?}");
    assert!(again.contains(&create), "{again:?}");
}

#[test]
fn what_if_changes_nothing() {
    let cloud = Cloud::new(SUBSCRIPTION);
    let arguments = ["--environment", "dev", "--location", "westeurope", "--what-if"];
    let output = cloud.run(&arguments);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("gitops-agent-dev would be made in westeurope"));
    assert!(
        cloud.calls().iter().all(|call| call.starts_with("account show") || call.starts_with("group exists"))
    );

    std::fs::write(cloud.folder.path().join("group"), "").unwrap();
    assert!(cloud.run(&arguments).status.success());
    let calls = cloud.calls();
    assert_eq!(calls.last().unwrap(), &format!("deployment group what-if {DEPLOY}"));
    assert!(!calls.iter().any(|call| call.contains(" create ")), "{calls:?}");
}

#[test]
fn deploy_stops_where_the_cloud_says_no() {
    let cloud = Cloud::new("exit 7");
    let output = cloud.run(&["--environment", "dev", "--location", "westeurope"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).contains("az login"));
    assert_eq!(cloud.calls().len(), 1);

    // A deployment that fails prints no settings.
    let refuses = SUBSCRIPTION
        .replace("*outputs.endpoint.*)", "\"deployment group create\"*) exit 3 ;;\n*outputs.endpoint.*)");
    let cloud = Cloud::new(&refuses);
    let output = cloud.run(&["--environment", "dev", "--location", "westeurope", "--subscription", "sub-9"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(cloud.calls().iter().all(|call| call.contains("sub-9")));
}

#[test]
fn wrong_usage_asks_nobody() {
    let cloud = Cloud::new(SUBSCRIPTION);
    for (arguments, said) in [
        (&["--location", "westeurope"][..], "--environment is missing"),
        (&["--environment", "dev"], "--location is missing"),
        (&["--environment"], "--environment needs a value"),
        (&["--environment", "nowhere", "--location", "x"], "nowhere.json is missing"),
        (&["--environment", "../../etc/x", "--location", "x"], "small letters"),
        (&["--environment", "dev", "--location", "x", "--force"], "--force is no option"),
    ] {
        let output = cloud.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{arguments:?}: {output:?}");
    }
    assert_eq!(cloud.calls(), [""; 0]);
}
