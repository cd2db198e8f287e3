//! Operations by name and shape, as `anychip bench` is asked for them, on any device.

use crate::operands::builder;
use crate::{BenchError, Shape, Subject};
use anychip_core::Device;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Runs of an operation at most, and how long they may take together.
const RUNS: u64 = 200;
const BUDGET: Duration = Duration::from_secs(2);

/// A time that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Operation.
    pub op: String,
    /// Its shape, as it was given.
    pub shape: BTreeMap<String, String>,
    /// Whose time: `host`, `device` or `simulated`.
    pub clock: String,
    /// Device.
    pub device: String,
    /// What it is in words.
    pub description: String,
    /// Whether another device did the work.
    pub fallback: bool,
    /// Runs, warmed up.
    pub runs: u64,
    /// Microseconds of the median run.
    pub median_us: f64,
    /// A quarter was as fast.
    pub q1_us: f64,
    /// Three quarters were as fast.
    pub q3_us: f64,
    /// Operations per second by the contract's count, in 10^12.
    pub tflops: f64,
    /// Bytes per second by the contract's count, each operand once, in 10^9.
    pub gb_per_s: f64,
    /// Largest error over the bound that follows from the declared arithmetic.
    pub worst: f64,
}

/// Runs an operation until its times settle, once its result was judged; and judges what the timed runs left behind.
///
/// # Errors
/// [`BenchError`]: no such operation, a shape that cannot be built, a device that does not run it, a wrong result.
pub fn measure(device: &dyn Device, op: &str, shape: &Shape) -> Result<Measured, BenchError> {
    let name = format!("{op}/{shape}");
    let build = builder(op, shape)?;
    let mut subject = Subject::new(device, &name, |b| build(b))?;
    subject.judge()?;
    let begun = Instant::now();
    for run in 0..RUNS {
        subject.time(1)?;
        // Two runs at least: the earlier half counts as warming up.
        if run > 0 && begun.elapsed() > BUDGET {
            break;
        }
    }
    let (cost, clock, fallback) = (subject.cost(), subject.clock().to_string(), subject.fell_back());
    let spread = subject.spread();
    let worst = subject.finish()?.unwrap_or(0.0);
    let spread = spread.ok_or_else(|| BenchError::Wrong("nothing was timed".into()))?;
    let per_ns = |count: u64| count as f64 / spread.median_ns.max(1.0);
    let info = device.info();
    Ok(Measured {
        op: op.into(),
        shape: shape.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        clock,
        device: info.name,
        description: info.description,
        fallback,
        runs: spread.runs,
        median_us: spread.median_ns / 1e3,
        q1_us: spread.q1_ns / 1e3,
        q3_us: spread.q3_ns / 1e3,
        tflops: per_ns(cost.flops) / 1e3,
        gb_per_s: per_ns(cost.bytes()),
        worst,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_operation_is_judged_and_timed() {
        let device = crate::open("cpu").unwrap();
        for (op, shape) in [
            ("linear", "m=3,n=5,k=64,dtype=mxfp4,out=bf16"),
            ("linear", "m=3,n=5,k=7,dtype=f32"),
            ("expert_gemm", "experts=3,tokens=4,k=64,n=8,top=2"),
            ("dense_attention", "heads=2,d=8,s=9,causal=yes"),
            ("sparse_attention", "heads=2,d=128,keys=5,q=3,pool=20"),
            ("top_k", "rows=2,n=100,k=7"),
        ] {
            let measured = measure(&*device, op, &shape.parse().unwrap()).unwrap();
            assert!(measured.median_us > 0.0 && measured.worst <= 1.0, "{measured:?}");
            assert_eq!((&*measured.device, &*measured.clock), ("cpu", "host"));
        }
        let error = measure(&*device, "copy", &Shape::default()).unwrap_err().to_string();
        assert!(error.contains("no benchmark `copy`") && error.contains("top_k"), "{error}");
    }
}
