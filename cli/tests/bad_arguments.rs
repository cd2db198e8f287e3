//! Arguments that cannot be run: exit code 2, the reason and the mend, before any work is done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{anychip, golden, passes, refused, run, text, write};
use std::fs;

const TINY: &str = "golden/tiny";
const NOT_BUILT: &[&str] = if cfg!(feature = "wgpu") { &[] } else { &["wgpu", "wgpu:1"] };

fn generate<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&["generate", TINY], rest].concat()
}

#[test]
fn devices_that_there_are_not() {
    let commands: [&[&str]; 3] = [&["verify", TINY], &["generate", TINY, "--prompt", "And"], &["conformance"]];
    for command in commands {
        for name in NOT_BUILT {
            let stderr = refused(&[command, &["--device", name]].concat(), &[name, "this build", "reference, cpu"]);
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
        refused(&[command, &["--device", "gpu"]].concat(), &["no device `gpu`", "reference, cpu"]);
        refused(&[command, &["--device", "ascend:960"]].concat(), &["no device `ascend:960`", "950pr-28", "910b"]);
    }
    let one_of_two = run(2, &["verify", TINY, "--device", "cpu", "--device", "gpu"]);
    assert_eq!(text(&one_of_two.stdout), "", "names are looked at before anything runs");
}

#[test]
fn token_ids_that_cannot_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| write(dir.path(), name, text);
    let beyond = file("beyond.json", "[0, 297, 1024]");
    refused(&generate(&["--tokens", &beyond]), &[&beyond, "token 1024", "place 2", "use ids 0 to 1023"]);
    for (name, text) in [
        ("text.json", "And it came to pass"),
        ("object.json", "{\"tokens\": [0]}"),
        ("negative.json", "[0, -1]"),
        ("float.json", "[0, 1.5]"),
        ("wide.json", "[4294967296]"),
        ("half.json", "[0, 297"),
        ("nothing.json", ""),
    ] {
        let path = file(name, text);
        refused(&generate(&["--tokens", &path]), &[&path, "not a JSON array of token ids", "write them as ["]);
    }
    let empty = file("empty.json", "[]");
    refused(&generate(&["--tokens", &empty]), &[&empty, "no token", "at least one id"]);
    let none = dir.path().join("none.json");
    refused(&generate(&["--tokens", none.to_str().unwrap()]), &["none.json", "cannot be read", "JSON array"]);
    fs::write(dir.path().join("binary.json"), [0xff, 0xfe, 0]).unwrap();
    refused(&generate(&["--tokens", dir.path().join("binary.json").to_str().unwrap()]), &["cannot be read"]);
    let stdin = anychip().args(generate(&["--tokens", "-"])).write_stdin("[5000]").output().unwrap();
    assert_eq!(stdin.status.code(), Some(2));
    assert!(text(&stdin.stderr).contains("standard input: token 5000"));
}

#[test]
fn prompts_that_cannot_be_run() {
    refused(&generate(&["--prompt", ""]), &["the prompt is empty", "--tokens"]);
    refused(&generate(&["--prompt", "", "--think", "high"]), &["the prompt is empty"]);
    refused(&generate(&[]), &["--prompt", "--tokens"]);
    refused(&generate(&["--prompt", "x", "--tokens", "f"]), &["cannot be used with"]);
    refused(&generate(&["--prompt", "x", "--think", "low"]), &["no thinking mode `low`", "use `high`"]);
    refused(&generate(&["--prompt", "x", "--profile", "preview"]), &["--think"]);
}

#[test]
fn a_context_longer_than_the_pool() {
    let prompt = "And it came to pass in those days, that there went out a decree from Caesar Augustus";
    let said = ["new ones need a context of", "`--context` is 16", "more context"];
    refused(&generate(&["--prompt", prompt, "--context", "16"]), &said);
    refused(&generate(&["--prompt", "And", "--context", "16", "--max-tokens", "15"]), &said);
    passes(&generate(&["--prompt", "And", "--context", "16", "--max-tokens", "14"]));
    refused(&generate(&["--prompt", "And", "--context", "1048577"]), &["1048576 positions"]);
    refused(&generate(&["--prompt", "And", "--max-tokens", "1048576"]), &["1048578", "1048576", "--max-tokens"]);
    refused(&generate(&["--prompt", "And", "--max-tokens", "18446744073709551615"]), &["--max-tokens"]);
    refused(&["plan", "v4-pro", "--context", "0"], &["at least 1 token"]);
    refused(&["plan", "v4-pro", "--context", "18446744073709551615"], &["shorter context"]);
}

#[test]
fn numbers_outside_their_range() {
    let random = |rest: &[&'static str]| generate(&[&["--prompt", "And"], rest].concat());
    for temperature in ["--temperature=-1", "--temperature=nan", "--temperature=inf"] {
        refused(&random(&[temperature]), &["temperature", "positive (0 is greedy)"]);
    }
    refused(&random(&["--temperature", "1", "--top-p", "0"]), &["top-p", "at most 1"]);
    refused(&random(&["--max-tokens", "many"]), &["--max-tokens"]);
    refused(&random(&["--precision", "double"]), &["exact, served"]);
}

#[test]
fn forms_and_precisions_that_do_not_go_together() {
    let said = ["form `layer`", "exact precision", "prefill, decode, chunked"];
    refused(&["verify", TINY, "--precision", "exact", "--form", "layer"], &said);
    refused(&["verify", "golden/A", "--form", "short"], &["form `short`", "exact precision"]);
    refused(&["verify", "golden/A", "--precision", "served"], &["golden/A", "use exact precision"]);
    refused(&["generate", "golden/A", "--tokens", "-", "--precision", "served"], &["standard input"]);
}

#[test]
fn checkpoints_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let new = new.to_str().unwrap();
    refused(&["synth", "tiny", "--layers", "5", new], &["4 layers", "at most 4"]);
    refused(&["synth", "tiny", "--layers", "0", new], &["num_hidden_layers"]);
    refused(&["synth", "tiny", "--experts", "1", new], &["n_routed_experts"]);
    refused(&["synth", "medium", new], &["tiny, v4-flash, v4-pro"]);
    assert!(!dir.path().join("new").exists());
    let file = write(dir.path(), "file", "kept");
    refused(&["synth", "tiny", &file], &[&file, "not a folder"]);
    refused(&["synth", "tiny", dir.path().to_str().unwrap()], &["is not empty", "`file`"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn reports_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("none/report.json");
    let commands: [&[&str]; 4] =
        [&["plan", "v4-pro"], &["devices"], &["verify", TINY], &["generate", TINY, "--prompt", "And"]];
    for command in commands {
        let output = run(2, &[command, &["--json", inside.to_str().unwrap()]].concat());
        assert!(text(&output.stderr).contains("none/report.json: cannot write the report"));
        assert_eq!(text(&output.stdout), "", "found before the work");
        refused(&[command, &["--json", dir.path().to_str().unwrap()]].concat(), &["a file, not a folder"]);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let output = run(2, &["plan", "v4-pro", "--json", "/dev/full"]);
    assert!(text(&output.stderr).contains("/dev/full: cannot write the report"));
    assert!(text(&output.stderr).contains("free space"));
    assert!(text(&output.stdout).contains("v4-pro at 1,048,576 tokens"), "the result was shown all the same");

    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    for args in [&["plan", "v4-pro"][..], &["devices", "--json"], &["generate", TINY, "--prompt", "And"]] {
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_anychip"))
            .args(args)
            .current_dir(golden("").parent().unwrap())
            .stdout(full())
            .stderr(full())
            .status();
        assert_eq!(status.unwrap().code(), Some(2), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let shell = |line: &str| {
        let line = line.replace("anychip", env!("CARGO_BIN_EXE_anychip"));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line]).current_dir(golden("").parent().unwrap()).output().unwrap()
    };
    // The pipe is closed before anything is written: each write fails.
    for line in [
        "{ sleep 1; anychip plan v4-pro; echo $? >&2; } | true",
        "{ sleep 1; anychip generate golden/tiny --prompt And --max-tokens 100000; echo $? >&2; } | true",
    ] {
        let stderr = text(&shell(line).stderr);
        assert!(stderr.ends_with("0\n") && !stderr.contains("panicked") && !stderr.contains("error"), "{stderr}");
    }
}

#[test]
fn a_json_option_that_swallows_the_folder_is_explained() {
    refused(&["verify", "--json", TINY], &["<DIR>", "hint: `--json` takes the word after it"]);
}

#[test]
fn operations_and_cases_that_there_are_not() {
    refused(&["conformance", "--op", "rmsnorm"], &["no operation `rmsnorm`", "rms_norm"]);
    refused(&["conformance", "--case", "rms_norm/none"], &["no case `rms_norm/none`", "rms_norm/"]);
    refused(&["conformance", "--profile", "slow"], &["quick, full"]);
    let dir = tempfile::tempdir().unwrap();
    let junit = dir.path().join("none/report.xml");
    refused(&["conformance", "--op", "rope", "--junit", junit.to_str().unwrap()], &["none/report.xml: cannot write"]);
}
