//! Manifests in TOML and JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::Components;
use super::lines::requirement;

fn table(text: &str) -> Table {
    text.parse().unwrap_or_default()
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| value.get(key))
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_table).into_iter().flatten()
}

/// The version of a dependency given as text or as a table; none for one that lies in a folder beside.
fn version(value: &Value) -> Option<String> {
    let Some(table) = value.as_table() else { return value.as_str().map(str::to_owned) };
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    if let Some(version) = text("version") {
        return Some(version.to_owned());
    }
    if text("git").is_some() {
        return Some(["rev", "tag", "branch"].into_iter().find_map(text).unwrap_or("").to_owned());
    }
    (!table.contains_key("path")).then(String::new)
}

fn dependencies(value: Option<&Value>, found: &mut Components) {
    for (name, value) in entries(value) {
        let name = value.get("package").and_then(Value::as_str).unwrap_or(name);
        // A list gives one version for each platform.
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            if let Some(version) = version(value) {
                found.add(name, version);
            }
        }
    }
}

pub(super) fn cargo(text: &str, found: &mut Components) {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let manifest = table(text);
    dependencies(at(&manifest, &["workspace", "dependencies"]), found);
    for kind in KINDS {
        dependencies(manifest.get(kind), found);
        for (_, target) in entries(manifest.get("target")) {
            dependencies(target.get(kind), found);
        }
    }
}

/// `[[package]]` with name and version. The repository's own packages have no source, or one in a folder.
pub(super) fn toml_lock(text: &str, found: &mut Components) {
    let lock = table(text);
    let cargo = lock.get("version").is_some_and(Value::is_integer) && !lock.contains_key("requires-python");
    for package in lock.get("package").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let source = package.get("source");
        let own = match source {
            None => cargo && !lock.contains_key("metadata"),
            Some(source) => ["editable", "virtual"].iter().any(|key| source.get(key).is_some()),
        };
        if let (Some(name), Some(version), false) = (text("name"), text("version"), own) {
            found.add(name, version);
        }
    }
}

pub(super) fn pyproject(text: &str, found: &mut Components) {
    let project = table(text);
    let mut lists =
        vec![at(&project, &["project", "dependencies"]), at(&project, &["build-system", "requires"])];
    lists.extend(entries(at(&project, &["project", "optional-dependencies"])).map(|(_, list)| Some(list)));
    lists.extend(entries(project.get("dependency-groups")).map(|(_, list)| Some(list)));
    for line in lists.into_iter().flatten().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        requirement(line, found);
    }
    let poetry = ["tool", "poetry"];
    for kind in ["dependencies", "dev-dependencies"] {
        dependencies(at(&project, &[&poetry[..], &[kind]].concat()), found);
    }
    for (_, group) in entries(at(&project, &["tool", "poetry", "group"])) {
        dependencies(group.get("dependencies"), found);
    }
    found.0.remove("python");
}

pub(super) fn pipfile(text: &str, found: &mut Components) {
    let file = table(text);
    dependencies(file.get("packages"), found);
    dependencies(file.get("dev-packages"), found);
}

pub(super) fn version_catalog(text: &str, found: &mut Components) {
    let catalog = table(text);
    let version = |value: &Value| -> String {
        let named = value.get("version").and_then(|version| version.get("ref")).and_then(Value::as_str);
        let value = match named {
            Some(name) => at(&catalog, &["versions", name]),
            None => value.get("version"),
        };
        let strict =
            |value: &Value| ["strictly", "require", "prefer"].iter().find_map(|key| value.get(key).cloned());
        value
            .and_then(|value| {
                value.as_str().map(str::to_owned).or_else(|| strict(value)?.as_str().map(str::to_owned))
            })
            .unwrap_or_default()
    };
    for (_, value) in entries(catalog.get("libraries")).chain(entries(catalog.get("plugins"))) {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        if let Some(short) = value.as_str() {
            let (name, version) = short.rsplit_once(':').unwrap_or((short, ""));
            found.add(name, version);
        } else if let Some(name) = text("module").or_else(|| text("id")) {
            found.add(name, version(value));
        } else if let (Some(group), Some(name)) = (text("group"), text("name")) {
            found.add(format!("{group}:{name}"), version(value));
        }
    }
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_default()
}

fn members(value: &Json) -> impl Iterator<Item = (&String, &Json)> {
    value.as_object().into_iter().flatten()
}

pub(super) fn package_json(text: &str, found: &mut Components) {
    let package = json(text);
    for kind in [
        "dependencies",
        "devDependencies",
        "peerDependencies",
        "optionalDependencies",
        "resolutions",
        "overrides",
    ] {
        for (name, version) in members(&package[kind]) {
            if let Some(version) = version.as_str().filter(|version| !version.starts_with("file:")) {
                found.add(name, version);
            }
        }
    }
}

/// The packages of a lock file of npm: by folder from version 2 on, nested before. Such a file has tens of thousands of
/// values, most of which are passed over.
pub(super) fn package_lock(text: &str, found: &mut Components) {
    #[derive(Deserialize)]
    struct Lock {
        packages: Option<BTreeMap<String, Locked>>,
        dependencies: Option<BTreeMap<String, Nested>>,
    }
    #[derive(Deserialize)]
    struct Locked {
        version: Option<String>,
    }
    #[derive(Deserialize)]
    struct Nested {
        version: Option<String>,
        dependencies: Option<BTreeMap<String, Self>>,
    }
    fn add_nested(dependencies: Option<BTreeMap<String, Nested>>, found: &mut Components) {
        for (name, package) in dependencies.into_iter().flatten() {
            if let Some(version) = package.version {
                found.add(name, version);
            }
            add_nested(package.dependencies, found);
        }
    }
    match serde_json::from_str(text) {
        Ok(Lock { packages: Some(packages), .. }) => {
            for (folder, package) in packages {
                if let (Some((_, name)), Some(version)) =
                    (folder.rsplit_once("node_modules/"), package.version)
                {
                    found.add(name, version);
                }
            }
        }
        Ok(Lock { packages: None, dependencies }) => add_nested(dependencies, found),
        // Not as npm writes it: what there is of it.
        Err(_) => any_package_lock(&json(text), found),
    }
}

fn any_package_lock(lock: &Json, found: &mut Components) {
    for (folder, package) in members(&lock["packages"]) {
        if let (Some((_, name)), Some(version)) =
            (folder.rsplit_once("node_modules/"), package["version"].as_str())
        {
            found.add(name, version);
        }
    }
    if lock["packages"].is_null() {
        nested(&lock["dependencies"], found);
    }
}

/// As deep as the parser allows, 128 levels.
fn nested(dependencies: &Json, found: &mut Components) {
    for (name, package) in members(dependencies) {
        if let Some(version) = package["version"].as_str() {
            found.add(name, version);
        }
        nested(&package["dependencies"], found);
    }
}

pub(super) fn nuget_lock(text: &str, found: &mut Components) {
    for (_, framework) in members(&json(text)["dependencies"]) {
        for (name, package) in members(framework) {
            if let Some(version) = package["resolved"].as_str() {
                found.add(name.to_ascii_lowercase(), version);
            }
        }
    }
}

pub(super) fn swift_resolved(text: &str, found: &mut Components) {
    let resolved = json(text);
    let pins = resolved["pins"].as_array().or_else(|| resolved["object"]["pins"].as_array());
    for pin in pins.into_iter().flatten() {
        let name = pin["identity"].as_str().or_else(|| pin["package"].as_str()).unwrap_or_default();
        let state = &pin["state"];
        let version = state["version"].as_str().or_else(|| state["revision"].as_str()).unwrap_or_default();
        found.add(name.to_ascii_lowercase(), version);
    }
}

pub(super) fn pipfile_lock(text: &str, found: &mut Components) {
    let lock = json(text);
    for kind in ["default", "develop"] {
        for (name, package) in members(&lock[kind]) {
            found.add(name, package["version"].as_str().unwrap_or_default());
        }
    }
}

pub(super) fn composer_json(text: &str, found: &mut Components) {
    let package = json(text);
    for kind in ["require", "require-dev"] {
        for (name, version) in members(&package[kind]) {
            found.add(name, version.as_str().unwrap_or_default());
        }
    }
    found.0.remove("php");
}

pub(super) fn composer_lock(text: &str, found: &mut Components) {
    let lock = json(text);
    for package in ["packages", "packages-dev"].iter().filter_map(|kind| lock[*kind].as_array()).flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        found.add(text("name"), text("version"));
    }
}
