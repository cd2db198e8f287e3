//! The half of `benches/gpu.sh` that is more than running programs: measuring ceilings, and merging what was measured.
//!
//! Not a command of `anychip`: it knows files of benchmarks and of torch, which nobody needs who runs a model.
#![forbid(unsafe_code)]

mod gathered;
mod report;
mod table;

use anychip_bench::BenchError;
use std::io;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: gpu-report adapters | ceilings DEVICE FILE | merge FOLDER OUT    (see benches/gpu.sh)";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{USAGE}")]
    Usage,
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error("cannot write {0}: {1}; name a folder with room that may be written by --out")]
    Write(String, io::Error),
    #[error("{0}: {1}")]
    Read(String, String),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["adapters"] => {
            adapters();
            Ok(())
        }
        ["ceilings", device, file] => ceilings(device, Path::new(file)),
        ["merge", folder, out] => merge(Path::new(folder), out),
        _ => Err(Failure::Usage),
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {failure}");
    // A wrong result is a result; whatever else goes wrong is none.
    ExitCode::from(if matches!(failure, Failure::Bench(BenchError::Wrong(_))) { 1 } else { 2 })
}

/// Name and description of each, with a tab between: what a shell can take apart.
fn adapters() {
    for (number, description) in anychip_wgpu::descriptions().iter().enumerate() {
        println!("wgpu:{number}\t{description}");
    }
}

fn ceilings(device: &str, file: &Path) -> Result<(), Failure> {
    let device = anychip_bench::open(device)?;
    let all = anychip_bench::ceilings::measure(&*device)?;
    for ceiling in &all {
        println!("{} {}, {}: {}", ceiling.kind, ceiling.format, ceiling.size, report::rate(ceiling));
    }
    let text = serde_json::to_string(&all).map_err(|error| Failure::Write(file.display().to_string(), error.into()))?;
    replace(file, &text)
}

fn merge(folder: &Path, out: &str) -> Result<(), Failure> {
    let report = report::Report::of(gathered::Gathered::read(folder)?);
    let json = format!("{out}.json");
    let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::Write(json.clone(), error.into()))?;
    replace(Path::new(&json), &(text + "\n"))?;
    replace(Path::new(&format!("{out}.md")), &table::markdown(&report))
}

/// Writes beside the file and renames: what was there stays whole when the disk is full or somebody stops this.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, file))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
        .map_err(|error| Failure::Write(file.display().to_string(), error))
}
