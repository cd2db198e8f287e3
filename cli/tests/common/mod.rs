//! What the tests of the command share: running it, and spoiling copies of the golden checkpoints.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

pub const INDEX: &str = "model.safetensors.index.json";

pub fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "golden", name].iter().collect()
}

/// The command, in the repository's root.
pub fn anychip() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_anychip"));
    command.current_dir(golden("").parent().unwrap()).timeout(std::time::Duration::from_secs(300));
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the command, which must exit with `code` and never panic.
pub fn run(code: i32, args: &[&str]) -> Output {
    let output = anychip().args(args).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    output
}

/// Standard output of a run that passes.
pub fn passes(args: &[&str]) -> String {
    text(&run(0, args).stdout)
}

/// The one JSON document of a run that passes.
pub fn document(args: &[&str]) -> Value {
    serde_json::from_str(&passes(args)).unwrap()
}

/// A JSON object has all of these fields.
pub fn has(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some(), "no `{field}` in {:?}", object);
    }
}

/// Standard error of a run that cannot be done: exit code 2, and each of `said` in the message.
pub fn refused(args: &[&str], said: &[&str]) -> String {
    let stderr = text(&run(2, args).stderr);
    assert!(stderr.contains("error: "), "{stderr}");
    for word in said {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
    stderr
}

/// A copy of a golden checkpoint, to be spoiled.
pub struct Copy {
    dir: TempDir,
}

impl Copy {
    pub fn of(name: &str) -> Copy {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(golden(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        Copy { dir }
    }

    pub fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn json(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap();
        edit(&mut value);
        fs::write(self.file(name), value.to_string()).unwrap();
    }

    /// The shard that the index names for a tensor.
    pub fn shard_of(&self, tensor: &str) -> String {
        let index: Value = serde_json::from_slice(&fs::read(self.file(INDEX)).unwrap()).unwrap();
        index["weight_map"][tensor].as_str().expect(tensor).to_owned()
    }

    /// Rewrites one tensor's dtype and shape, over the same bytes as far as they go; `None` removes the tensor.
    pub fn tensor(&self, name: &str, edit: impl Fn(Dtype, Vec<usize>) -> Option<(Dtype, Vec<usize>)>) {
        let file = self.file(&self.shard_of(name));
        let bytes = fs::read(&file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut kept: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (other, view) in tensors.tensors() {
            let mut data = view.data().to_vec();
            let described = (view.dtype(), view.shape().to_vec());
            let Some((dtype, shape)) = (if other == name { edit(described.0, described.1) } else { Some(described) })
            else {
                continue;
            };
            data.resize(shape.iter().product::<usize>() * dtype.bitsize() / 8, 0);
            kept.push((other, dtype, shape, data));
        }
        let views = kept
            .iter()
            .map(|(name, dtype, shape, data)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

pub fn write(dir: &Path, name: &str, text: &str) -> String {
    fs::write(dir.join(name), text).unwrap();
    dir.join(name).to_str().unwrap().to_owned()
}

/// A Vulkan loader that finds no driver.
pub const NO_DRIVER: [(&str, &str); 2] = [("VK_ICD_FILENAMES", "/nonexistent"), ("VK_DRIVER_FILES", "/nonexistent")];

/// Whether there is a Vulkan driver to run on. Where there is none the test says that it is skipped, and fails where
/// `ANYCHIP_REQUIRE` names wgpu.
pub fn vulkan() -> bool {
    let found = document(&["devices", "--json"]);
    let adapter = |device: &Value| device["name"] == "wgpu:0";
    let there = found["devices"].as_array().unwrap().iter().any(adapter);
    let required = std::env::var("ANYCHIP_REQUIRE").is_ok_and(|names| names.split(',').any(|name| name == "wgpu"));
    assert!(there || !required, "ANYCHIP_REQUIRE names wgpu, and there is none: {}", found["unavailable"]);
    if !there {
        println!("SKIPPED: {}", found["unavailable"]);
    }
    there
}
