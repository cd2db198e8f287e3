//! Devices by name: the one place that knows which backends this build has.

use crate::error::Failure;
use crate::interrupt::{self, Interruptible};
use anychip_core::{Device, Error};
use std::sync::Arc;

/// The devices of this build, in the order in which they are listed.
pub(crate) const BUILT: [&str; 2] = ["reference", "cpu"];

/// Names that belong to backends which this build does not have.
pub(crate) const ABSENT: [&str; 2] = ["wgpu[:N]", "ascend[:PROFILE]"];

/// Opens a device as it is.
pub(crate) fn open(name: &str) -> Result<Box<dyn Device>, Failure> {
    match name {
        "reference" => {
            // The oracle's operands are host memory: the machine's is its limit, as the CPU's.
            let memory = anychip_cpu::open().info().memory_bytes;
            Ok(anychip_reference::open(memory.unwrap_or(u64::MAX / 2)))
        }
        "cpu" => Ok(anychip_cpu::open()),
        _ if absent(name) => Err(Error::Unavailable {
            device: name.into(),
            cause: "this build does not have its backend".into(),
            mend: format!("use {}", BUILT.join(" or ")),
        }
        .into()),
        _ => Err(Failure::UnknownDevice {
            name: name.into(),
            known: format!("{} (and {} in builds that have them)", BUILT.join(", "), ABSENT.join(", ")),
        }),
    }
}

/// Opens a device that stops at Ctrl-C.
pub(crate) fn open_interruptible(name: &str) -> Result<Arc<dyn Device>, Failure> {
    Ok(Interruptible::new(open(name)?, interrupt::flag()))
}

/// `names` without repetitions.
pub(crate) fn once(names: &[String]) -> Vec<&str> {
    let mut once: Vec<&str> = Vec::new();
    for name in names {
        if !once.contains(&&**name) {
            once.push(name);
        }
    }
    once
}

/// Whether a name is of the grammar of a backend that is not built.
fn absent(name: &str) -> bool {
    match name.split_once(':') {
        None => matches!(name, "wgpu" | "ascend"),
        Some(("wgpu", number)) => number.parse::<u32>().is_ok(),
        Some(("ascend", profile)) => !profile.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn built_devices_open_under_their_names() {
        for name in BUILT {
            assert_eq!(open(name).unwrap().info().name, name);
        }
    }

    #[test]
    fn other_names_say_which_devices_there_are() {
        for name in ["wgpu", "wgpu:1", "ascend", "ascend:910b"] {
            let message = open(name).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains("this build") && message.contains("reference or cpu"), "{message}");
        }
        for name in ["", "gpu", "cpu:0", "wgpu:x", "ascend:", "Reference"] {
            let message = open(name).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains("no device") && message.contains("wgpu[:N]"), "{message}");
        }
    }

    #[test]
    fn a_device_named_twice_is_used_once() {
        assert_eq!(once(&["cpu", "reference", "cpu"].map(String::from)), ["cpu", "reference"]);
    }
}
