//! What the stages of `gpu.sh` left in its folder. Each file may be missing, and each list end anywhere: the report is
//! written after every stage, and one that is stopped stops in the middle of a line.

use crate::Failure;
use anychip_bench::ceilings::Ceiling;
use anychip_bench::record::{Record, Spread};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

/// One stage of the script.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// `passed`, `failed` or `skipped`; `stopped`, `crashed` or `missing` where it did not come to its end.
    pub(crate) status: String,
    pub(crate) note: String,
}

/// A line of `gpu_torch.py`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Torch {
    /// Why there is no torch here.
    Absent(String),
    Device(TorchDevice),
    Ceiling(Ceiling),
    Row(TorchRow),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TorchDevice {
    pub(crate) version: String,
    pub(crate) name: String,
    /// Whether it is the adapter that anychip runs on, as far as names tell.
    pub(crate) same: bool,
    pub(crate) clock: String,
}

/// An operation's shape in torch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TorchRow {
    pub(crate) op: String,
    pub(crate) shape: String,
    /// Why torch has nothing equal.
    pub(crate) none: Option<String>,
    pub(crate) variants: Vec<Variant>,
}

/// One way to write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// Whether it computes the same from the same stored formats.
    pub(crate) equal: bool,
    /// Largest error against the reference, over the reference's largest value.
    pub(crate) error: Option<f64>,
    /// Why it has no time.
    pub(crate) failed: Option<String>,
    pub(crate) spread: Option<Spread>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// What the script knows: device, description, driver, options.
    pub(crate) run: BTreeMap<String, String>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) conformance: Option<Value>,
    pub(crate) ceilings: Vec<Ceiling>,
    pub(crate) records: Vec<Record>,
    pub(crate) torch: Vec<Torch>,
}

impl Gathered {
    pub(crate) fn read(folder: &Path) -> Result<Gathered, Failure> {
        let file = |name: &str| text(&folder.join(name));
        let pairs = file("run")?;
        let run = pairs.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into()));
        Ok(Gathered {
            run: run.collect(),
            stages: file("stages")?.lines().filter_map(stage).collect(),
            conformance: serde_json::from_str(&file("conformance.json")?).ok(),
            ceilings: serde_json::from_str(&file("ceilings.json")?).unwrap_or_default(),
            records: lines(&file("bench.jsonl")?),
            torch: lines(&file("torch.jsonl")?),
        })
    }
}

fn text(file: &Path) -> Result<String, Failure> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::Read(file.display().to_string(), error.to_string())),
    }
}

fn lines<T: DeserializeOwned>(text: &str) -> Vec<T> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn stage(line: &str) -> Option<Stage> {
    let mut parts = line.splitn(4, '\t');
    Some(Stage {
        name: parts.next()?.into(),
        seconds: parts.next()?.parse().ok()?,
        status: parts.next()?.into(),
        note: parts.next().unwrap_or_default().into(),
    })
}
