//! Devices by name: the one place that knows which backends this build has.

use crate::error::Failure;
use crate::interrupt::{self, Interruptible};
use anychip_core::{Device, Error};
use std::fmt;
use std::sync::Arc;

/// A device of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The oracle.
    Reference,
    /// The CPU.
    Cpu,
}

/// The devices of this build, in the order in which they are listed.
pub(crate) const BUILT: [Name; 2] = [Name::Reference, Name::Cpu];

/// Names of backends which this build does not have.
pub(crate) const ABSENT: [&str; 2] = ["wgpu[:N]", "ascend[:PROFILE]"];

impl Name {
    /// The device that `given` names on the command line.
    pub(crate) fn of(given: &str) -> Result<Name, Failure> {
        if let Some(name) = BUILT.into_iter().find(|name| name.to_string() == given) {
            return Ok(name);
        }
        let built = BUILT.map(|name| name.to_string()).join(", ");
        if absent(given) {
            let cause = "this build does not have its backend".into();
            return Err(Error::Unavailable { device: given.into(), cause, mend: format!("use one of: {built}") }.into());
        }
        let known = format!("{built} (and {} in builds that have them)", ABSENT.join(", "));
        Err(Failure::UnknownDevice { name: given.into(), known })
    }

    /// Several of them, each once; all names are looked at before any device is opened.
    pub(crate) fn of_all(given: &[String]) -> Result<Vec<Name>, Failure> {
        let mut names = Vec::new();
        for name in given {
            let name = Name::of(name)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens the device as it is.
    pub(crate) fn open(self) -> Box<dyn Device> {
        match self {
            Name::Reference => {
                // The oracle's operands are host memory: its limit is the machine's, which the CPU knows.
                let memory = anychip_cpu::open().info().memory_bytes;
                anychip_reference::open(memory.unwrap_or(u64::MAX / 2))
            }
            Name::Cpu => anychip_cpu::open(),
        }
    }

    /// Opens the device so that it stops at Ctrl-C.
    pub(crate) fn open_interruptible(self) -> Arc<dyn Device> {
        Interruptible::over(self.open(), interrupt::flag())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Name::Reference => "reference",
            Name::Cpu => "cpu",
        })
    }
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
            assert_eq!(Name::of(&name.to_string()).unwrap(), name);
            assert_eq!(name.open().info().name, name.to_string());
            assert_eq!(name.open_interruptible().info().name, name.to_string());
        }
    }

    #[test]
    fn other_names_say_which_devices_there_are() {
        for name in ["wgpu", "wgpu:1", "ascend", "ascend:910b"] {
            let message = Name::of(name).unwrap_err().to_string();
            assert!(message.contains("this build") && message.contains("reference, cpu"), "{message}");
        }
        for name in ["", "gpu", "cpu:0", "wgpu:x", "ascend:", "Reference"] {
            let message = Name::of(name).unwrap_err().to_string();
            assert!(message.contains("no device") && message.contains("wgpu[:N]"), "{message}");
        }
    }

    #[test]
    fn a_device_named_twice_is_used_once() {
        assert_eq!(Name::of_all(&["cpu", "reference", "cpu"].map(String::from)).unwrap(), [Name::Cpu, Name::Reference]);
    }
}
