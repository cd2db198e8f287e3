//! One file per command: arguments in, library calls, results out.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod check;
pub(crate) mod conformance;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod faults;
pub(crate) mod generate;
pub(crate) mod plan;
pub(crate) mod synth;
pub(crate) mod trace;
pub(crate) mod verify;

/// Bytes in the binary unit that leaves at least one digit before the point.
fn binary(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// What ran on another device, as a remark behind a result; empty where nothing did.
fn fallback_remark(fallbacks: &[(String, u64)]) -> String {
    if fallbacks.is_empty() {
        return String::new();
    }
    let ops: Vec<String> = fallbacks.iter().map(|(op, count)| format!("{op} x{count}")).collect();
    format!("  fallback: {}", ops.join(", "))
}
