//! Simulated times of operations at any shape: what `anychip bench` and `anychip trace` show of an Ascend.
//!
//! Operands hold nothing but lists: only time is computed. The same operation is run with values at a small size first, and
//! its result is judged; a kernel that computes something else has no time here.

use crate::operands::{Blank, OPS, builder};
use crate::{BenchError, Shape, Subject, calibrate};
use anychip_ascend::bench::{BenchError as Kernel, case};
use anychip_ascend::isa::Pipe;
use anychip_ascend::kernel::Program;
use anychip_ascend::machine::{CubeType, Profile};
use anychip_ascend::sim::{Options, Timing};
use anychip_ascend::{open_profile, open_timed};
use serde::Serialize;
use std::collections::BTreeMap;

/// A simulated time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulated {
    /// Operation.
    pub op: String,
    /// Its shape, as it was given.
    pub shape: BTreeMap<String, String>,
    /// Always `simulated`.
    pub clock: &'static str,
    /// Microseconds of all launches, each launch itself included.
    pub simulated_us: f64,
    /// Cycles of all launches.
    pub cycles: f64,
    /// Launches.
    pub launches: usize,
    /// Cores that took part in the longest launch.
    pub cores: usize,
    /// Operations per second, in 10^12; a multiply and an add are two.
    pub tflops: Option<f64>,
    /// What of the cube's peak for the type that is.
    pub share_of_peak: Option<f64>,
    /// Bytes that cores asked for or gave, per second, in 10^12.
    pub tb_per_s: f64,
    /// Part of the time in which each kind of engine was at work, in the longest launch.
    pub pipe_busy: BTreeMap<&'static str, f64>,
    /// Bytes that went to or came from the memory behind L2.
    pub hbm_bytes: f64,
    /// What of its bandwidth that is, in the longest launch.
    pub hbm_share: f64,
    /// Part of the bytes read that were in L2.
    pub l2_hit: f64,
    /// What the longest launch is bound by.
    pub bound: &'static str,
    /// The machine.
    pub profile: String,
    /// What results depend on of it.
    pub profile_hash: String,
    /// How far the figure can be trusted: `calibrated` on this very row, `held out` where published figures of such rows are
    /// kept apart, or `modelled, not validated`.
    pub validated: &'static str,
    /// What was checked before it was timed.
    pub checked: String,
}

/// How long an operation takes at a shape, on the machine of a profile.
///
/// # Errors
/// [`BenchError`]: no such operation or shape, or a result that is wrong.
pub fn simulate(profile: &Profile, op: &str, shape: &Shape) -> Result<Simulated, BenchError> {
    let (timings, work, checked) = timings(profile, op, shape)?;
    Ok(summary(profile, op, shape, &timings, work, checked))
}

type Work = Option<(f64, CubeType)>;

fn timings(profile: &Profile, op: &str, shape: &Shape) -> Result<(Vec<Timing>, Work, String), BenchError> {
    if let Some((op, shape)) = of_the_machine(op, shape) {
        let case = case(profile, op, &shape)?;
        return Ok((vec![case.time(profile)?], case.work, case.checked.into()));
    }
    let checked = check(profile, op, shape)?;
    let (device, watch) = open_timed(profile.clone(), false);
    let build = builder(op, shape)?;
    let mut blank = Blank { device: &*device, stream: device.open_stream()? };
    let built = build(&mut blank)?;
    blank.stream.enqueue(&built)?;
    let timings = watch.take().into_iter().map(|launch| launch.timing).collect();
    Ok((timings, work(op, shape, built.cost().flops), checked))
}

/// The kernels that are no operation of the contract.
fn of_the_machine<'o>(op: &'o str, shape: &Shape) -> Option<(&'o str, Shape)> {
    match op {
        "linear" if shape.iter().any(|pair| pair == ("dtype", "int8")) => {
            Some(("linear_i8", shape.without(&["dtype", "out"])))
        }
        "expert_gemm" if shape.iter().any(|pair| pair == ("dtype", "int8")) => Some(("grouped_i8", grouped(shape))),
        "copy" | "softmax" | "linear_i8" | "grouped_i8" => Some((op, shape.clone())),
        _ => None,
    }
}

/// Experts as groups of equal size.
fn grouped(shape: &Shape) -> Shape {
    let size = |name: &str| shape.size(name, Some(1), u32::MAX).unwrap_or(1);
    let (experts, rows) = (size("experts"), size("tokens").saturating_mul(size("top")));
    let plain = shape.without(&["dtype", "out", "experts", "tokens", "top"]);
    plain.with("groups", experts).with("m", rows.div_ceil(experts))
}

/// Operations, and the type whose peak they are measured by.
fn work(op: &str, shape: &Shape, flops: u64) -> Work {
    let dtype = shape.iter().find(|(name, _)| *name == "dtype").map(|(_, dtype)| dtype);
    let kind = match (op, dtype) {
        ("linear", None) => CubeType::F16,
        ("linear" | "expert_gemm" | "dense_attention", Some("f16")) => CubeType::F16,
        ("linear" | "dense_attention", Some("f32")) => CubeType::F32,
        (_, Some("mxfp4")) => CubeType::Fp4,
        (_, Some("mxfp8" | "fp8" | "w4a8")) | ("expert_gemm", None) => CubeType::Fp8,
        ("linear" | "expert_gemm", _) | ("dense_attention" | "sparse_attention", _) => CubeType::BF16,
        _ => return None,
    };
    Some((flops as f64, kind))
}

/// Sizes that an operation is checked at: each of those given, but no larger than these.
const CHECKED: [(&str, u32); 13] = [
    ("m", 300),
    ("n", 320),
    ("k", 640),
    ("experts", 3),
    ("tokens", 40),
    ("top", 2),
    ("heads", 4),
    ("s", 150),
    ("keys", 150),
    ("q", 3),
    ("pool", 300),
    ("rows", 3),
    ("d", 512),
];

/// Runs the operation at a small size with values, and judges it.
fn check(profile: &Profile, op: &str, shape: &Shape) -> Result<String, BenchError> {
    if !OPS.contains(&op) {
        let known = OPS.iter().chain(&["copy", "softmax"]).copied().collect::<Vec<_>>().join(", ");
        return Err(BenchError::UnknownOp { op: op.into(), known });
    }
    let mut small = shape.clone();
    for (name, most) in CHECKED {
        // Of a row's scores as many are asked for as there are, or fewer.
        let most = if op == "top_k" && name == "n" { 5000 } else { most };
        small.at_most(name, most);
    }
    let device = open_profile(&format!("ascend:{}", profile.name), profile.clone(), Options::checked().timed());
    let build = builder(op, &small)?;
    let text = small.to_string();
    let mut subject = Subject::new(&*device, &format!("{op}/{text}"), |b| build(b))?;
    subject.judge()?;
    Ok(format!("the same kernel at {text}, judged by the oracle, without hazards"))
}

fn summary(profile: &Profile, op: &str, shape: &Shape, all: &[Timing], work: Work, checked: String) -> Simulated {
    let sum = |of: &dyn Fn(&Timing) -> f64| all.iter().map(of).sum::<f64>();
    let us = sum(&|timing| timing.us);
    let tflops = work.map(|(operations, _)| operations / us.max(1e-9) / 1e6);
    let peak = work.and_then(|(_, kind)| profile.peak(kind));
    let longest = all.iter().max_by(|a, b| a.us.total_cmp(&b.us));
    let read = sum(&|timing| timing.gm_bytes);
    Simulated {
        op: op.into(),
        shape: shape.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        clock: "simulated",
        simulated_us: us,
        cycles: sum(&|timing| timing.cycles),
        launches: all.len(),
        cores: longest.map_or(0, |timing| timing.cores),
        tflops,
        share_of_peak: tflops.zip(peak).map(|(tflops, peak)| tflops * 1e12 / peak),
        tb_per_s: read / us.max(1e-9) / 1e6,
        pipe_busy: longest.map(engines).unwrap_or_default(),
        hbm_bytes: sum(&|timing| timing.hbm_bytes),
        hbm_share: longest.map_or(0.0, |timing| timing.hbm_share),
        l2_hit: sum(&|timing| timing.l2_hit * timing.gm_bytes) / read.max(1.0),
        bound: longest.map_or("nothing ran", Timing::bound),
        profile: profile.name.clone(),
        profile_hash: profile.hash(),
        validated: calibrate::validated(profile, op, shape),
        checked,
    }
}

/// Engines by their names in results.
fn engines(timing: &Timing) -> BTreeMap<&'static str, f64> {
    let name = |pipe| match pipe {
        Pipe::S => "scalar",
        Pipe::V => "vector",
        Pipe::M => "cube",
        Pipe::Mte1 => "mte1",
        Pipe::Mte2 => "mte2",
        Pipe::Mte3 => "mte3",
        Pipe::Fix => "fixpipe",
    };
    timing.busy().into_iter().map(|(pipe, share)| (name(pipe), share)).collect()
}

/// The longest launch of an operation at a shape: what its cores do, and when each instruction runs.
///
/// # Errors
/// As [`simulate`].
pub fn trace(profile: &Profile, op: &str, shape: &Shape) -> Result<(Vec<Program>, Timing), BenchError> {
    if let Some((op, shape)) = of_the_machine(op, shape) {
        return Ok(case(profile, op, &shape)?.trace(profile)?);
    }
    check(profile, op, shape)?;
    let (device, watch) = open_timed(profile.clone(), true);
    let mut blank = Blank { device: &*device, stream: device.open_stream()? };
    let built = builder(op, shape)?(&mut blank)?;
    blank.stream.enqueue(&built)?;
    let longest = watch.take().into_iter().max_by(|a, b| a.timing.us.total_cmp(&b.timing.us));
    let nothing = || Kernel::Shape { problem: "it has no output elements, so nothing runs".into() };
    let launch = longest.ok_or_else(nothing)?;
    Ok((launch.programs, launch.timing))
}
