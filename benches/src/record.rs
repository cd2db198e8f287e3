//! What a benchmark leaves for programs: a line of JSON each, because criterion's files know neither what an operation
//! costs nor whether its result was right.

use crate::Subject;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Where the times of single runs lie, in nanoseconds. Quartiles, because a machine that others use makes a few runs slow
/// and none fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Runs, warmed up.
    pub runs: u64,
    /// The fastest.
    pub least_ns: f64,
    /// A quarter was as fast.
    pub q1_ns: f64,
    /// Half was as fast.
    pub median_ns: f64,
    /// Three quarters were as fast.
    pub q3_ns: f64,
}

impl Spread {
    /// Of some times, `None` of none.
    pub fn of(times: &[Duration]) -> Option<Spread> {
        let mut nanos: Vec<f64> = times.iter().map(|time| time.as_nanos() as f64).collect();
        nanos.sort_by(f64::total_cmp);
        let last = nanos.len().checked_sub(1)?;
        let at = |part: f64| nanos[(part * last as f64).round() as usize];
        Some(Spread {
            runs: nanos.len() as u64,
            least_ns: at(0.0),
            q1_ns: at(0.25),
            median_ns: at(0.5),
            q3_ns: at(0.75),
        })
    }
}

/// One benchmark of one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Operation.
    pub op: String,
    /// The rest of the benchmark's name.
    pub shape: String,
    /// Device, as `ANYCHIP_BENCH_DEVICE` named it.
    pub device: String,
    /// What it is in words.
    pub description: String,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a benchmark went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Right before and after, and timed.
    Timed(Box<Timed>),
    /// The device does not run it.
    PassedOver {
        /// Its reason.
        reason: String,
    },
    /// A wrong result, or the device failed.
    Failed {
        /// What happened.
        error: String,
    },
}

/// A time and what it is to be measured by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// `host`, `device` or `simulated`.
    pub clock: String,
    /// Whether another device did the work.
    pub fallback: bool,
    /// Element types that are read.
    pub reads: Vec<String>,
    /// Floating-point operations, by the contract.
    pub flops: u64,
    /// Bytes read and written, each operand once, by the contract.
    pub bytes: u64,
    /// Largest error over tolerance.
    pub worst: f64,
    /// The times.
    #[serde(flatten)]
    pub spread: Spread,
}

impl Timed {
    /// Of a subject that is right before and after, `None` if it was never timed.
    pub(crate) fn of(subject: &Subject<'_>, worst: f64) -> Option<Timed> {
        Some(Timed {
            clock: subject.clock().to_string(),
            fallback: subject.fell_back(),
            reads: subject.reads().into_iter().map(|dtype| dtype.to_string()).collect(),
            flops: subject.cost().flops,
            bytes: subject.cost().bytes(),
            worst,
            spread: subject.spread()?,
        })
    }
}

impl Record {
    /// Adds the record to a file of them, by one write: whoever reads meanwhile sees whole lines.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub fn append(&self, file: &Path) -> std::io::Result<()> {
        let line = serde_json::to_string(self)? + "\n";
        std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quartiles() {
        let times: Vec<Duration> = [40, 10, 30, 50, 20].map(Duration::from_nanos).to_vec();
        let spread = Spread::of(&times).unwrap();
        assert_eq!([spread.least_ns, spread.q1_ns, spread.median_ns, spread.q3_ns], [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Spread::of(&times[..1]).unwrap().q3_ns, 40.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn lines_are_read_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let record = Record {
            op: "top_k".into(),
            shape: "16k/t1".into(),
            device: "cpu".into(),
            description: "a \"chip\"".into(),
            outcome: Outcome::Failed { error: "refused".into() },
        };
        record.append(file.path()).unwrap();
        record.append(file.path()).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let all: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(all.len() == 2 && matches!(&all[1].outcome, Outcome::Failed { error } if error == "refused"));
    }
}
