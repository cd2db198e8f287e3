//! Ctrl-C: work stops soon, what there is so far is shown, nothing half-written stays, exit code 2.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{golden, text};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_anychip"))
        .args(args)
        .current_dir(golden("").parent().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends SIGINT and waits; the process must end within seconds.
fn interrupt(child: Child) -> Output {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?} to stop", start.elapsed());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("error: interrupted") && !stderr.contains("panicked"), "{stderr}");
    output
}

/// Waits until `ready`, while the process runs.
fn until(child: &mut Child, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "never began");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn generation_shows_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let mut child = start(&[
        "generate",
        "golden/tiny",
        "--prompt",
        "And it came to pass",
        "--max-tokens",
        "500000",
        "--json",
        report.to_str().unwrap(),
    ]);
    let mut first = [0; 12];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b", that the L");
    interrupt(child);
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(document["finish"], "interrupted");
    assert!(document["text"].as_str().unwrap().starts_with(", that the LORD"));
    let tokens = document["tokens"].as_array().unwrap().len();
    assert!((1..500_000).contains(&tokens), "{tokens}");
}

#[test]
fn a_simulation_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace.json");
    // Minutes of work, and a file that is begun before it.
    let shape = ["--op", "linear", "--shape", "m=65536,n=65536,k=32768,dtype=f16"];
    let mut child = start(&[&["trace", "--output", file.to_str().unwrap()][..], &shape].concat());
    until(&mut child, || std::fs::read_dir(dir.path()).unwrap().next().is_some());
    interrupt(child);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn verification_stops() {
    // The longest run there is: token by token, on the slow device, over both precisions.
    let devices = ["--device", "reference", "--device", "cpu"];
    let mut child = start(&[&["verify", "golden/tiny", "--form", "decode"][..], &devices].concat());
    let mut header = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut header).unwrap();
    assert_eq!(&header, b"device");
    interrupt(child);
}

#[test]
fn a_checkpoint_half_written_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("model");
    let mut child = start(&["synth", "v4-flash", "--layers", "2", "--experts", "8", target.to_str().unwrap()]);
    let begun = |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some());
    until(&mut child, || begun(&target));
    interrupt(child);
    assert!(!target.exists());
}
