//! The crate graph: arrows point down only, and the runtime names no backend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

const BACKENDS: [&str; 4] = ["reference", "cpu", "wgpu", "ascend"];

/// What a room may depend on, in the rooms' names; `None` for a room that the house does not have.
///
/// Rooms that are planned stand here already, so that they begin with their rule.
fn allowed(room: &str) -> Option<Vec<&'static str>> {
    Some(match room {
        "core" | "shaders" => vec![],
        "runtime" | "reference" | "cpu" | "ascend" => vec!["core"],
        "wgpu" => vec!["core", "shaders"],
        "conformance" => vec!["core", "reference"],
        "bench" => [&["core", "conformance"][..], &BACKENDS].concat(),
        "anychip" => [&["core", "conformance", "runtime", "bench"][..], &BACKENDS].concat(),
        _ => return None,
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn manifest(dir: &Path) -> Table {
    let file = dir.join("Cargo.toml");
    fs::read_to_string(&file).unwrap().parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// `anychip-cpu` is the room `cpu`; the command's crate is `anychip`.
fn room(package: &str) -> Option<String> {
    (package == "anychip").then(|| package.to_owned()).or_else(|| package.strip_prefix("anychip-").map(str::to_owned))
}

/// The rooms in a dependency table, by the packages' own names.
fn rooms(table: Option<&toml::Value>) -> BTreeSet<String> {
    let entries = table.and_then(toml::Value::as_table).into_iter().flatten();
    entries.filter_map(|(key, value)| room(value.get("package").and_then(toml::Value::as_str).unwrap_or(key))).collect()
}

/// Everything a crate's code or build may use, in all targets: not what its tests use.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let none = Table::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table).unwrap_or(&none);
    for kind in ["dependencies", "build-dependencies"] {
        all.extend(rooms(manifest.get(kind)));
        targets.values().for_each(|target| all.extend(rooms(target.get(kind))));
    }
    all
}

/// Room and manifest of each member of the workspace.
fn members() -> BTreeMap<String, Table> {
    let workspace = manifest(&root());
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let member = |path: &toml::Value| {
        let manifest = manifest(&root().join(path.as_str().unwrap()));
        let name = manifest["package"]["name"].as_str().unwrap();
        (room(name).unwrap_or_else(|| panic!("package `{name}` is not named anychip-...")), manifest)
    };
    members.iter().map(member).collect()
}

#[test]
fn arrows_point_down_only() {
    let members = members();
    for room in ["core", "reference", "cpu", "wgpu", "shaders", "conformance", "runtime", "bench", "anychip"] {
        assert!(members.contains_key(room), "the workspace has no room `{room}`");
    }
    for (room, manifest) in &members {
        let allowed = allowed(room).unwrap_or_else(|| panic!("room `{room}` has no rule: say what it may depend on"));
        for dependency in dependencies(manifest) {
            assert!(allowed.contains(&&*dependency), "`{room}` must not depend on `{dependency}`: {allowed:?} only");
        }
        // Tests may look at other rooms, but the contract stands alone, and nothing uses the command.
        let tests = rooms(manifest.get("dev-dependencies"));
        assert!(!tests.contains("anychip"), "the tests of `{room}` must not depend on the command");
        assert!(!["core", "shaders"].contains(&&**room) || tests.is_empty(), "the tests of `{room}` use {tests:?}");
    }
}

#[test]
fn every_crate_of_the_repository_is_a_member() {
    fn find(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                find(&path, found);
            } else if name == "Cargo.toml" {
                found.push(dir.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    find(&root(), &mut found);
    let workspace = &manifest(&root())["workspace"];
    let listed = |kind: &str| workspace[kind].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
    let members: BTreeSet<&str> = listed("members").chain([""]).collect();
    // Fuzz targets need a nightly compiler, and an example is a repository of its own: they stay out and are no rooms.
    let outside: Vec<&str> = listed("exclude").collect();
    for dir in found {
        let known = members.contains(dir.to_str().unwrap()) || outside.iter().any(|room| dir.starts_with(room));
        assert!(known, "{} is no member of the workspace", dir.display());
    }
}

#[test]
fn the_runtime_names_no_backend() {
    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { sources(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    sources(&root().join("runtime/src"), &mut found);
    assert!(found.len() > 10, "{found:?}");
    for file in found {
        let text = fs::read_to_string(&file).unwrap();
        for backend in BACKENDS {
            for name in [format!("anychip_{backend}"), format!("anychip-{backend}")] {
                assert!(!text.contains(&name), "{} names {name}", file.display());
            }
        }
    }
}

#[test]
fn the_rule_catches_what_it_is_for() {
    let bad: Table = "[dependencies]\nspeed = { package = \"anychip-cpu\", path = \"x\" }\n\
                      [target.'cfg(unix)'.dependencies]\nanychip-wgpu.workspace = true\n\
                      [build-dependencies]\nanychip = \"1\"\n[dev-dependencies]\nanychip-bench = \"1\"\n"
        .parse()
        .unwrap();
    let found: Vec<String> = dependencies(&bad).into_iter().collect();
    assert_eq!(found, ["anychip", "cpu", "wgpu"]);
    assert!(found.iter().all(|room| !allowed("runtime").unwrap().contains(&&**room)));
}
