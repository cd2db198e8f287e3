//! `benches/gpu.sh` on whatever there is: its report in software, and what it says where there is no GPU.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
use common::{NO_DRIVER, golden, text, vulkan};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The smallest benchmark: 4096 comparisons.
const BENCH: &str = "top_k";
const ONLY: &str = "top_k/16k/t1/";

/// A folder as `--pack` makes it, of the programs of this test run.
fn packed() -> TempDir {
    let root = golden("").parent().unwrap().to_owned();
    // Of the whole workspace, or cargo would choose other features and build everything anew.
    let args = ["test", "--workspace", "--no-run", "--bench", BENCH, "--message-format=json", "--quiet"];
    let release = if cfg!(debug_assertions) { None } else { Some("--release") };
    let built = Command::new(env!("CARGO")).args(args).args(release).current_dir(&root).output().unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    let messages = text(&built.stdout);
    let built = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut programs: Vec<(String, PathBuf)> = built
        .filter_map(|message| {
            let path = message["executable"].as_str()?.into();
            Some((message["target"]["name"].as_str()?.to_owned(), path))
        })
        .collect();
    programs.push(("anychip".into(), env!("CARGO_BIN_EXE_anychip").into()));
    let dir = tempfile::tempdir().unwrap();
    for (name, path) in programs {
        std::os::unix::fs::symlink(path, dir.path().join(name)).unwrap();
    }
    for entry in fs::read_dir(root.join("benches")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("gpu") {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    dir
}

fn script(dir: &Path, args: &[&str], envs: &[(&str, &str)]) -> Output {
    let mut command = Command::new(dir.join("gpu.sh"));
    // Devices of the surroundings would be measured in place of the one asked for.
    command.args(args).envs(envs.iter().copied()).env_remove("ANYCHIP_BENCH_DEVICE").current_dir(dir).output().unwrap()
}

fn refused(output: &Output, said: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for word in said {
        assert!(stderr.contains("error: ") && stderr.contains(word), "`{word}` is not in: {stderr}");
    }
}

#[test]
fn the_report_of_one_benchmark() {
    let dir = packed();
    let (dir, out) = (dir.path(), dir.path().join("out/report"));
    refused(&script(dir, &[], &NO_DRIVER), &["no Vulkan adapter of NVIDIA"]);
    refused(&script(dir, &["--any"], &NO_DRIVER), &["no Vulkan driver", "mesa-vulkan-drivers"]);
    refused(&script(dir, &["--limit", "soon"], &[]), &["--limit"]);
    if !vulkan() {
        return;
    }
    let adapters = text(&Command::new(dir.join("gpu-report")).arg("adapters").output().unwrap().stdout);
    if !adapters.to_lowercase().contains("nvidia") {
        refused(&script(dir, &[], &[]), &["no Vulkan adapter of NVIDIA", "--any"]);
        refused(&script(dir, &["--device", "wgpu:0"], &[]), &["not of NVIDIA", "--any"]);
    }
    refused(&script(dir, &["--any", "--device", "wgpu:99"], &[]), &["wgpu:99", "wgpu:0"]);
    refused(&script(dir, &["--any", "--out", "/proc/none/report"], &[]), &["cannot write", "--out"]);

    let wanted = out.to_str().unwrap();
    let all = ["--any", "--device", "wgpu:0", "--quick", "--only", ONLY, "--python", "no-such-python", "--out", wanted];
    let output = script(dir, &all, &[]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let report: Value = serde_json::from_slice(&fs::read(out.with_extension("json")).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["complete"]), (&"anychip.gpu/1".into(), &true.into()), "{report:#}");
    assert!(report["conformance"]["passed"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["run"]["description"].as_str().is_some_and(|found| adapters.contains(found)), "{report:#}");
    assert_eq!(report["torch_absent"], "there is no no-such-python", "{report:#}");
    let ceilings = report["ceilings"]["anychip"].as_array().unwrap();
    assert!(ceilings.iter().any(|one| one["kind"] == "copy" && one["per_second"].as_f64().unwrap() > 0.0));
    let [row] = &report["rows"].as_array().unwrap()[..] else { panic!("{report:#}") };
    assert_eq!([&row["op"], &row["shape"], &row["outcome"]], ["top_k", "16k/t1", "timed"], "{row:#}");
    assert_eq!((&row["fallback"], &row["times_torch"]), (&false.into(), &Value::Null), "{row:#}");
    for number in ["flops", "bytes", "worst", "median_ns", "q1_ns", "q3_ns", "runs"] {
        assert!(row[number].is_number(), "{number}: {row:#}");
    }
    assert!(row["rates"]["share_of_copy"].as_f64().unwrap() > 0.0, "{row:#}");
    let stages: Vec<&str> = report["stages"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(stages, ["conformance", "ceilings", "torch", "bench top_k"]);
    let table = fs::read_to_string(out.with_extension("md")).unwrap();
    assert!(table.contains("### `top_k`") && table.contains("| 16k/t1 |"), "{table}");
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 2, "nothing half written is left");
}
