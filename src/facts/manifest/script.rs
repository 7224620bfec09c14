//! Manifests that are programs: what their literals say.

use std::collections::BTreeMap;

use super::Components;

/// The arguments between the parentheses behind each occurrence of `call`.
fn calls<'a>(text: &'a str, call: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(call) {
        rest = &rest[at + call.len()..];
        let Some(inside) = rest.trim_start().strip_prefix('(') else { continue };
        let mut depth = 1_u32;
        let end = inside.char_indices().find(|(_, letter)| {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let end = end.map_or(inside.len(), |(at, _)| at);
        found.push(&inside[..end]);
        rest = &inside[end..];
    }
    found
}

/// The text between quotes, `'` and `"`.
fn literals(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(open) = rest.find(['\'', '"']) {
        let quote = &rest[open..=open];
        let Some(end) = rest[open + 1..].find(quote) else { break };
        found.push(&rest[open + 1..open + 1 + end]);
        rest = &rest[open + 2 + end..];
    }
    found
}

/// `.package(url: "…/name.git", from: "1.2.3")`, in any of its forms.
pub(super) fn package_swift(text: &str, found: &mut Components) {
    for call in calls(text, ".package") {
        let Some((_, rest)) = call.split_once("url:") else { continue };
        let literals = literals(rest);
        let Some(url) = literals.first() else { continue };
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_end_matches(".git");
        found.add(name.to_ascii_lowercase(), literals.get(1).copied().unwrap_or_default());
    }
}

/// `'group:artifact:version'`, `group: 'g', name: 'a', version: 'v'` and `id 'plugin' version 'v'`; `$name` in a
/// version is looked up among the file's own `name = 'literal'`.
pub(super) fn gradle(text: &str, found: &mut Components) {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    let lines =
        || text.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('*'));
    for line in lines() {
        if let Some((left, right)) = line.split_once('=')
            && let [value] = literals(right)[..]
        {
            let name = left.trim().rsplit([' ', '.']).next().unwrap_or_default();
            values.insert(name.trim_matches(['\'', '"', '[', ']']), value);
        }
    }
    let resolve = |version: &str| -> String {
        let name = version.strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
        let name = name.map(|name| name.rsplit('.').next().unwrap_or(name));
        name.and_then(|name| values.get(name)).copied().unwrap_or(version).to_owned()
    };
    for line in lines() {
        let literals = literals(line);
        if line.starts_with("id ") || line.starts_with("id(") {
            if let [id, version, ..] = literals[..] {
                found.add(id, resolve(version));
            }
            continue;
        }
        let named = |key: &str| {
            let (_, rest) = line.split_once(key)?;
            let rest = rest.trim_start_matches([':', '=', ' ']);
            rest.starts_with(['\'', '"']).then(|| self::literals(rest).first().copied())?
        };
        if let (Some(group), Some(name)) = (named("group"), named("name")) {
            found.add(format!("{group}:{name}"), resolve(named("version").unwrap_or_default()));
            continue;
        }
        for literal in literals {
            let parts: Vec<&str> = literal.split(':').collect();
            let plain = |part: &&str| {
                !part.is_empty()
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            };
            // Two parts could be a path of the build; a group has a dot.
            match parts.as_slice() {
                [group, name] if plain(group) && plain(name) && group.contains('.') => {
                    found.add(format!("{group}:{name}"), "");
                }
                [group, name, version, ..] if plain(group) && plain(name) && !version.is_empty() => {
                    found.add(format!("{group}:{name}"), resolve(version));
                }
                _ => {}
            }
        }
    }
}

/// `FetchContent_Declare(name GIT_TAG v)`, `ExternalProject_Add`, `CPMAddPackage` and `find_package(Name 1.2)`.
pub(super) fn cmake(text: &str, found: &mut Components) {
    let text: String =
        text.lines().map(|line| line.split('#').next().unwrap_or_default().to_owned() + "\n").collect();
    let lower = text.to_ascii_lowercase();
    let each = |call: &str| -> Vec<Vec<String>> {
        calls(&lower, call)
            .into_iter()
            .map(|call| call.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect())
            .collect()
    };
    let behind = |words: &[String], keys: &[&str]| -> Option<String> {
        let at = words.iter().position(|word| keys.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    for words in each("fetchcontent_declare").into_iter().chain(each("externalproject_add")) {
        let Some(name) = words.first() else { continue };
        found.add(name, behind(&words, &["git_tag", "url_hash", "url"]).unwrap_or_default());
    }
    for words in each("cpmaddpackage") {
        match behind(&words, &["name"]) {
            Some(name) => found.add(name, behind(&words, &["version", "git_tag"]).unwrap_or_default()),
            None => {
                let package = words.first().map(String::as_str).unwrap_or_default();
                let (name, version) = package.split_once(['@', '#']).unwrap_or((package, ""));
                found.add(name.rsplit(['/', ':']).next().unwrap_or_default(), version);
            }
        }
    }
    for words in each("find_package") {
        let Some(name) = words.first() else { continue };
        let version = words.get(1).filter(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
        found.add(name, version.cloned().unwrap_or_default());
    }
}
