//! Manifests in XML. Documents with their own entities are refused by the parser, so that none can grow.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

use super::Components;

/// The text of a child element.
fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.tag_name().name() == name)?;
    child.text().map(str::trim)
}

/// Dependencies, managed ones, plugins and a parent of another group, `${property}` looked up in the same file.
pub(super) fn maven(text: &str, found: &mut Components) {
    let Ok(document) = Document::parse(text) else { return };
    let project = document.root_element();
    let mut values: BTreeMap<String, &str> = BTreeMap::new();
    for properties in project.descendants().filter(|node| node.tag_name().name() == "properties") {
        for property in properties.children().filter(Node::is_element) {
            values.insert(property.tag_name().name().to_owned(), property.text().unwrap_or_default().trim());
        }
    }
    let resolve = |version: &str| -> String {
        let name = version.strip_prefix("${").and_then(|name| name.strip_suffix('}'));
        // `${project.version}` stays as it is: the repository's own modules do not change with a release.
        name.and_then(|name| values.get(name)).copied().unwrap_or(version).to_owned()
    };
    for node in project.descendants() {
        let kind = node.tag_name().name();
        let parent = kind == "parent" && node.parent() == Some(project);
        if !matches!(kind, "dependency" | "plugin" | "extension") && !parent {
            continue;
        }
        let group = child(node, "groupId").unwrap_or("org.apache.maven.plugins");
        // The parent of the same group is this repository's own.
        if parent && child(project, "groupId").is_none_or(|own| own == group || own.starts_with(group)) {
            continue;
        }
        if let Some(artifact) = child(node, "artifactId") {
            found.add(format!("{group}:{artifact}"), resolve(child(node, "version").unwrap_or_default()));
        }
    }
}

/// `PackageReference`, `PackageVersion` and the `package` of `packages.config`.
pub(super) fn nuget(text: &str, found: &mut Components) {
    let Ok(document) = Document::parse(text) else { return };
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for group in document.descendants().filter(|node| node.tag_name().name() == "PropertyGroup") {
        values.extend(
            group.children().filter_map(|property| Some((property.tag_name().name(), property.text()?))),
        );
    }
    for node in document.descendants() {
        let id = match node.tag_name().name() {
            "PackageReference" | "PackageVersion" | "GlobalPackageReference" | "DotNetCliToolReference" => {
                node.attribute("Include").or_else(|| node.attribute("Update"))
            }
            "package" => node.attribute("id"),
            _ => None,
        };
        let Some(id) = id else { continue };
        let version = ["Version", "version", "VersionOverride"]
            .iter()
            .find_map(|key| node.attribute(*key))
            .or_else(|| child(node, "Version"))
            .unwrap_or_default();
        let name = version.strip_prefix("$(").and_then(|name| name.strip_suffix(')'));
        let version = name.and_then(|name| values.get(name)).copied().unwrap_or(version);
        // NuGet's names have no case.
        found.add(id.to_ascii_lowercase(), version);
    }
}
