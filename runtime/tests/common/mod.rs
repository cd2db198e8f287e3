//! What the tests of the model share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

use anychip_core::Device;
use anychip_runtime::{Model, Options, Precision};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "golden", name].iter().collect()
}

pub fn device(name: &str) -> Arc<dyn Device> {
    match name {
        "reference" => anychip_reference::open(8 << 30).into(),
        "cpu" => anychip_cpu::open().into(),
        other => panic!("no device {other}"),
    }
}

pub fn open(device_name: &str, model: &str, precision: Precision) -> Model {
    let options = Options { precision, context: 512, ..Options::default() };
    Model::open(device(device_name), &golden(model), options, &(), &AtomicBool::new(false)).unwrap()
}

/// The larger of two differences. NaN is the largest: `f32::max` would drop it.
pub fn worse(most: f32, difference: f32) -> f32 {
    if difference.is_nan() || most.is_nan() { f32::NAN } else { most.max(difference) }
}
