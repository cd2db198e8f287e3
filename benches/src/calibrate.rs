//! The cycle model against published figures: the rows that it was fitted on, and no others.

use crate::{BenchError, Shape, simulate};
use anychip_ascend::bench::case;
use anychip_ascend::isa::Pipe;
use anychip_ascend::machine::Profile;
use serde::Serialize;

/// What of a launch a published figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// All of it, in microseconds.
    Time,
    /// The cycles of the vector unit.
    VectorCycles,
}

/// A published figure: name, profile, operation, shape, what it is of, value, source.
struct Published(&'static str, &'static str, &'static str, &'static str, What, f64, &'static str);

const ROWS: &[Published] = &[
    Published(
        "C1",
        "950pr",
        "linear",
        "m=8192,n=8192,k=8192,dtype=f16,out=f16",
        What::Time,
        2571.4,
        "S3 matmul_basic_api",
    ),
    Published(
        "C2",
        "910b",
        "linear",
        "m=8192,n=8192,k=8192,dtype=f16,out=f16",
        What::Time,
        3670.7,
        "S3 matmul_basic_api",
    ),
    Published(
        "C3",
        "950pr",
        "linear",
        "m=8192,n=8192,k=8192,dtype=mxfp4,out=bf16",
        What::Time,
        680.0,
        "S3 mxfp4_basic",
    ),
    Published("C4", "950pr", "linear", "m=6144,n=6144,k=6144,dtype=mxfp8,out=bf16", What::Time, 602.0, "S4 mxfp8"),
    Published(
        "C5",
        "a3",
        "linear",
        "m=6144,n=6144,k=6144,dtype=f16,out=f32",
        What::Time,
        1506.0,
        "S4 gemm_performance",
    ),
    Published(
        "C6",
        "950pr",
        "copy",
        "bytes=301989888,tile=64x1024,direction=gm-ub",
        What::Time,
        185.7,
        "S3 data_copy 3",
    ),
    Published(
        "C6",
        "910b",
        "copy",
        "bytes=301989888,tile=64x1024,direction=gm-ub",
        What::Time,
        202.7,
        "S3 data_copy 3",
    ),
    Published("C7", "950pr", "copy", "bytes=301989888,tile=1x64,direction=gm-ub", What::Time, 881.1, "S3 data_copy 1"),
    Published("C7", "910b", "copy", "bytes=301989888,tile=1x64,direction=gm-ub", What::Time, 548.2, "S3 data_copy 1"),
    Published(
        "C7b",
        "950pr",
        "copy",
        "bytes=301989888,tile=64x64,direction=gm-ub",
        What::Time,
        206.0,
        "S3 data_copy 2",
    ),
    Published("C7b", "910b", "copy", "bytes=301989888,tile=64x64,direction=gm-ub", What::Time, 220.8, "S3 data_copy 2"),
    Published(
        "C8",
        "950pr",
        "copy",
        "bytes=301989888,tile=64x64,direction=gm-l1",
        What::Time,
        241.6,
        "S3 data_copy, L1 case 1",
    ),
    Published(
        "C8",
        "910b",
        "copy",
        "bytes=301989888,tile=64x64,direction=gm-l1",
        What::Time,
        283.5,
        "S3 data_copy, L1 case 1",
    ),
    Published(
        "C9",
        "950pr",
        "copy",
        "bytes=301989888,tile=64x1024,direction=gm-ub,parts=4,times=4",
        What::Time,
        354.2,
        "S3 data_copy 6",
    ),
    Published(
        "C9",
        "910b",
        "copy",
        "bytes=301989888,tile=64x1024,direction=gm-ub,parts=4,times=4",
        What::Time,
        354.6,
        "S3 data_copy 6",
    ),
    Published("C10", "950pr", "softmax", "rows=128,cols=128", What::VectorCycles, 1785.0, "S3, best VF"),
    Published(
        "C11",
        "950pr",
        "expert_gemm",
        "experts=8,tokens=8192,k=1024,n=8192,dtype=int8",
        What::Time,
        224.1,
        "S3 quant_group case 1",
    ),
];

/// A row: what was published, what is predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name in the specification.
    pub row: &'static str,
    /// Machine.
    pub profile: String,
    /// Operation and shape.
    pub what: String,
    /// `us` or `cycles`.
    pub unit: &'static str,
    /// The published figure.
    pub published: f64,
    /// The model's.
    pub predicted: f64,
    /// Relative error, with its sign.
    pub error: f64,
    /// Where the figure is from.
    pub source: &'static str,
}

/// All rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The rows.
    pub rows: Vec<Row>,
    /// Mean of the absolute errors.
    pub mean_error: f64,
    /// The largest.
    pub largest_error: f64,
    /// Profiles and their hashes.
    pub profiles: Vec<(String, String)>,
}

/// How a guessed figure moves the predictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The machine.
    pub profile: String,
    /// The figure.
    pub figure: String,
    /// Largest relative change of a row's prediction with half of it.
    pub half: f64,
    /// With half as much again.
    pub more: f64,
}

fn predict(profile: &Profile, row: &Published) -> Result<f64, BenchError> {
    let Published(_, _, op, shape, what, ..) = row;
    match what {
        What::Time => Ok(simulate(profile, op, &shape.parse()?)?.simulated_us),
        What::VectorCycles => {
            let timing = case(profile, op, &shape.parse()?)?.time(profile)?;
            // One of the two halves has all of the work.
            Ok(2.0 * timing.vector_busy.get(&Pipe::V).copied().unwrap_or(0.0) * timing.cycles)
        }
    }
}

/// Predicts every row that the model was fitted on; with a profile's name only that one's.
///
/// # Errors
/// [`BenchError`].
pub fn calibrate(only: Option<&str>) -> Result<Calibration, BenchError> {
    let mut rows = Vec::new();
    let mut profiles: Vec<(String, String)> = Vec::new();
    for row in ROWS.iter().filter(|row| only.is_none_or(|only| only == row.1)) {
        let Published(name, profile, op, shape, what, published, source) = *row;
        let profile = Profile::open(profile)?;
        let predicted = predict(&profile, row)?;
        let unit = if what == What::Time { "us" } else { "cycles" };
        let what = format!("{op} {shape}");
        let error = predicted / published - 1.0;
        let known = (profile.name.clone(), profile.hash());
        if !profiles.contains(&known) {
            profiles.push(known);
        }
        rows.push(Row { row: name, profile: profile.name, what, unit, published, predicted, error, source });
    }
    let errors = || rows.iter().map(|row| row.error.abs());
    let mean_error = errors().sum::<f64>() / rows.len().max(1) as f64;
    let largest_error = errors().fold(0.0, f64::max);
    Ok(Calibration { rows, mean_error, largest_error, profiles })
}

/// How each guessed figure of a profile moves the rows of that profile, by half of it either way.
///
/// # Errors
/// [`BenchError`].
pub fn sensitivity(profile: &str) -> Result<Vec<Sensitivity>, BenchError> {
    let base = Profile::open(profile)?;
    let rows: Vec<&Published> = ROWS.iter().filter(|row| row.1 == profile).collect();
    let all = rows.iter().map(|row| predict(&base, row));
    let plain = all.collect::<Result<Vec<f64>, _>>()?;
    let mut found = Vec::new();
    for figure in base.guessed() {
        let mut largest = [0.0f64; 2];
        for (largest, factor) in largest.iter_mut().zip([0.5, 1.5]) {
            let varied = base.scaled(figure, factor)?;
            for (row, plain) in rows.iter().zip(&plain) {
                let change = predict(&varied, row)? / plain - 1.0;
                *largest = if change.abs() > largest.abs() { change } else { *largest };
            }
        }
        let [half, more] = largest;
        found.push(Sensitivity { profile: profile.into(), figure: figure.into(), half, more });
    }
    Ok(found)
}

/// Kinds of operations whose published figures are kept apart, on chips that they were published of.
const HELD_OUT: [&str; 5] = ["linear", "expert_gemm", "dense_attention", "top_k", "copy"];

/// How far a figure can be trusted.
pub(crate) fn validated(profile: &Profile, op: &str, shape: &Shape) -> &'static str {
    let is = |row: &&Published| (row.1, row.2) == (&*profile.name, op) && row.3.parse::<Shape>().as_ref() == Ok(shape);
    let published = !profile.name.starts_with("950dt");
    if ROWS.iter().any(|row| is(&row)) {
        "calibrated"
    } else if published && HELD_OUT.contains(&op) && Profile::names().any(|name| name == profile.name) {
        "held out"
    } else {
        "modelled, not validated"
    }
}
