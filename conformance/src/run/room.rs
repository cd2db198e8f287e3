//! Whether there is memory for a case, on the device and on the host.

use crate::case::Case;
use anychip_core::host::free_memory;
use anychip_core::{DeviceInfo, Error};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by cases that take what others would miss: they run one at a time, also on the threads of a test harness.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the host cannot judge a case: its memory, where the system says how much of it is free.
pub(super) fn none_on_host(case: &Case) -> Option<String> {
    let (need, free) = (case.host_bytes(), free_memory()?);
    (need > free).then(|| format!("free memory of the host must be at least {need} bytes, got {free}"))
}

/// Why the device has no memory for an operand: it is larger than all that the device can give, by its own account. A device
/// that runs out of memory for any other reason fails the case.
pub(crate) fn none_on_device(info: &DeviceInfo, error: &Error) -> Option<String> {
    let Error::OutOfMemory { requested, .. } = error else { return None };
    let most = info.max_allocation.min(info.memory_bytes.unwrap_or(u64::MAX));
    (*requested > most).then(|| format!("an operand must be at most {most} bytes, got {requested}"))
}

/// The same of a case with an operand of gigabytes: here a device may be out of memory that others have, or that it does not
/// know the size of.
pub(super) fn none_for_much(error: &Error) -> Option<String> {
    let Error::OutOfMemory { requested, available, .. } = error else { return None };
    Some(format!("free memory of the device must be at least {requested} bytes, got {available}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use anychip_core::DeviceId;

    #[test]
    fn only_what_a_device_can_never_give_is_unsupported() {
        let mut info = DeviceInfo::new(DeviceId::unique(), "small", "a small one");
        (info.max_allocation, info.memory_bytes) = (1000, Some(4000));
        let out_of_memory = |requested| Error::OutOfMemory { device: "small".into(), requested, available: 10 };
        assert_eq!(none_on_device(&info, &out_of_memory(1000)), None);
        let why = none_on_device(&info, &out_of_memory(1001)).unwrap();
        assert_eq!(why, "an operand must be at most 1000 bytes, got 1001");
        assert_eq!(none_on_device(&info, &Error::Foreign { device: "small".into(), what: "a tensor" }), None);
    }

    #[test]
    fn a_case_that_takes_more_than_there_is_does_not_run() {
        let case = crate::cases(crate::Profile::Quick, 0).pop().unwrap();
        assert_eq!(none_on_host(&case), None);
        if free_memory().is_some() {
            assert!(none_on_host(&case.taking(u64::MAX)).unwrap().contains("must be at least 18446744073709551615"));
        }
    }
}
