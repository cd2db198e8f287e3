//! Devices by name: the one place that knows which backends this build has.

use crate::error::Failure;
use crate::interrupt::{self, Interruptible};
use anychip_ascend::machine::Profile;
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
    /// A simulated Ascend NPU by its profile, or the default one.
    Ascend(Option<&'static str>),
    /// A Vulkan adapter by its number, or the first.
    #[cfg(feature = "wgpu")]
    Wgpu(Option<usize>),
}

/// The devices that every machine has, in the order in which they are listed.
pub(crate) const EVERYWHERE: [Name; 2] = [Name::Reference, Name::Cpu];

/// Names of this build's devices.
const BUILT: &str = if cfg!(feature = "wgpu") {
    "reference, cpu, ascend[:PROFILE], wgpu[:N]"
} else {
    "reference, cpu, ascend[:PROFILE]"
};

/// Names of backends which this build does not have.
pub(crate) const ABSENT: &[&str] = if cfg!(feature = "wgpu") { &[] } else { &["wgpu[:N]"] };

impl Name {
    /// The device that `given` names on the command line.
    pub(crate) fn of(given: &str) -> Result<Name, Failure> {
        if let Some(name) = EVERYWHERE.into_iter().find(|name| name.to_string() == given) {
            return Ok(name);
        }
        if let Some(profile) = given.strip_prefix("ascend") {
            return Name::simulated(given, profile);
        }
        #[cfg(feature = "wgpu")]
        if let Some(number) = adapter(given) {
            return Ok(Name::Wgpu(number));
        }
        if absent(given) {
            let cause = "this build does not have its backend".into();
            return Err(Error::Unavailable { device: given.into(), cause, mend: format!("use one of: {BUILT}") }.into());
        }
        let known = match ABSENT {
            [] => BUILT.into(),
            _ => format!("{BUILT} (and {} in builds that have them)", ABSENT.join(", ")),
        };
        Err(Failure::UnknownDevice { name: given.into(), known })
    }

    /// What follows `ascend`: nothing, or a profile's name.
    fn simulated(given: &str, profile: &str) -> Result<Name, Failure> {
        let unknown = || {
            let known = Profile::names().map(|name| format!("ascend:{name}"));
            Failure::UnknownDevice {
                name: given.into(),
                known: format!("{BUILT}; {}", known.collect::<Vec<_>>().join(", ")),
            }
        };
        match profile.strip_prefix(':') {
            None if profile.is_empty() => Ok(Name::Ascend(None)),
            Some(profile) => {
                let found = Profile::names().find(|name| *name == profile);
                found.map(|profile| Name::Ascend(Some(profile))).ok_or_else(unknown)
            }
            None => Err(unknown()),
        }
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

    /// The devices of this machine: those that are everywhere, and each adapter under its number.
    pub(crate) fn found() -> Vec<Name> {
        #[cfg(not(feature = "wgpu"))]
        let adapters = [];
        #[cfg(feature = "wgpu")]
        let adapters = (0..anychip_wgpu::descriptions().len()).map(|number| Name::Wgpu(Some(number)));
        EVERYWHERE.into_iter().chain([Name::Ascend(None)]).chain(adapters).collect()
    }

    /// Backends of this build that found nothing to run on, each with the mend.
    pub(crate) fn missing(found: &[Name]) -> Vec<Error> {
        #[cfg(feature = "wgpu")]
        if !found.iter().any(|name| matches!(name, Name::Wgpu(_))) {
            return Name::Wgpu(None).open().err().into_iter().collect();
        }
        let _ = found;
        Vec::new()
    }

    /// The profile of a simulated device.
    pub(crate) fn profile(self) -> Option<Profile> {
        match self {
            Name::Ascend(profile) => Profile::open(profile.unwrap_or(anychip_ascend::DEFAULT_PROFILE)).ok(),
            _ => None,
        }
    }

    /// Opens the device as it is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the machine has no such device, with the mend.
    pub(crate) fn open(self) -> Result<Box<dyn Device>, Error> {
        match self {
            Name::Reference => {
                // The oracle's operands are host memory: its limit is the machine's, which the CPU knows.
                let memory = anychip_cpu::open().info().memory_bytes;
                Ok(anychip_reference::open(memory.unwrap_or(u64::MAX / 2)))
            }
            Name::Cpu => Ok(anychip_cpu::open()),
            Name::Ascend(profile) => {
                let name = profile.map_or("ascend".to_owned(), |profile| format!("ascend:{profile}"));
                let mend = "name one of these".to_owned();
                anychip_ascend::open(profile).map_err(|error| Error::Unavailable {
                    device: name,
                    cause: error.to_string(),
                    mend,
                })
            }
            #[cfg(feature = "wgpu")]
            Name::Wgpu(number) => anychip_wgpu::open(number),
        }
    }

    /// Opens the device so that it stops at Ctrl-C.
    ///
    /// # Errors
    /// Those of [`open`](Name::open).
    pub(crate) fn open_interruptible(self) -> Result<Arc<dyn Device>, Error> {
        Ok(Interruptible::over(self.open()?, interrupt::flag()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Reference => f.write_str("reference"),
            Name::Cpu => f.write_str("cpu"),
            Name::Ascend(None) => f.write_str("ascend"),
            Name::Ascend(Some(profile)) => write!(f, "ascend:{profile}"),
            #[cfg(feature = "wgpu")]
            Name::Wgpu(None) => f.write_str("wgpu"),
            #[cfg(feature = "wgpu")]
            Name::Wgpu(Some(number)) => write!(f, "wgpu:{number}"),
        }
    }
}

/// Whether a name is of the grammar of a backend that is not built.
fn absent(name: &str) -> bool {
    match name.split_once(':') {
        None => name == "wgpu",
        Some(_) => adapter(name).is_some(),
    }
}

/// The adapter that a name means: of `wgpu:1` the number, of `wgpu` whichever is first.
fn adapter(name: &str) -> Option<Option<usize>> {
    match name.strip_prefix("wgpu")? {
        "" => Some(None),
        // No second name for a device: `wgpu:01` is none.
        rest => rest.strip_prefix(':')?.parse().ok().filter(|n| rest == format!(":{n}")).map(Some),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn devices_open_under_their_names() {
        for name in Name::found() {
            assert_eq!(Name::of(&name.to_string()).unwrap(), name);
            assert_eq!(name.open().unwrap().info().name, name.to_string());
            assert_eq!(name.open_interruptible().unwrap().info().name, name.to_string());
        }
    }

    #[test]
    fn an_adapter_is_one_by_its_number_or_the_first() {
        let of = |names: [&str; 7]| names.map(adapter);
        let none = None;
        let given = ["wgpu", "wgpu:0", "wgpu:12", "wgpu:", "wgpu:x", "wgpu:01", "wgpu:+1"];
        assert_eq!(of(given), [Some(None), Some(Some(0)), Some(Some(12)), none, none, none, none]);
    }

    #[test]
    fn other_names_say_which_devices_there_are() {
        let without: &[&str] = if cfg!(feature = "wgpu") { &[] } else { &["wgpu", "wgpu:1"] };
        for name in without {
            let message = Name::of(name).unwrap_err().to_string();
            assert!(message.contains("this build") && message.contains("reference, cpu"), "{message}");
        }
        for name in ["", "gpu", "cpu:0", "wgpu:x", "ascend:", "ascend:960", "ascend910b", "Reference"] {
            let message = Name::of(name).unwrap_err().to_string();
            assert!(message.contains("no device") && message.contains("wgpu[:N]"), "{message}");
        }
    }

    #[test]
    fn each_profile_is_a_device() {
        for profile in Profile::names() {
            let name = Name::of(&format!("ascend:{profile}")).unwrap();
            let info = name.open().unwrap().info();
            assert_eq!((info.name, info.clock), (name.to_string(), anychip_core::Clock::Simulated));
        }
    }

    #[test]
    fn a_device_named_twice_is_used_once() {
        assert_eq!(Name::of_all(&["cpu", "reference", "cpu"].map(String::from)).unwrap(), [Name::Cpu, Name::Reference]);
    }
}
