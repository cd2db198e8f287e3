//! What a device does once it is lost.

use super::{Trial, in_words};
use anychip_core::{DType, Device, Error, Op, Result};

/// Judges what a device does once it is lost, for a backend's own tests: `lose` makes that happen, by destroying the
/// driver's handle or whatever the backend has for it. No case of the catalogue does, because no call of the contract does.
///
/// Every later call answers [`Error::DeviceLost`], every time; what the device says of itself stays, events that were done
/// may stay done, and letting go of everything does no harm.
///
/// # Errors
/// The first call that answers otherwise, in words.
///
/// # Example
/// ```no_run
/// # fn open_my_chip() -> anychip_core::Result<Box<dyn anychip_core::Device>> { Ok(anychip_reference::open(1 << 30)) }
/// # fn pull_the_plug() {}
/// let device = open_my_chip()?;
/// anychip_conformance::when_lost(&*device, pull_the_plug).unwrap();
/// # Ok::<(), anychip_core::Error>(())
/// ```
pub fn when_lost(device: &dyn Device, lose: impl FnOnce()) -> Result<(), String> {
    let before = |what: &str, error: Error| format!("{what}, before the device was lost: {error}");
    let info = device.info();
    let mut stream = device.open_stream().map_err(|error| before("a stream could not be opened", error))?;
    let tensor = device.tensor(DType::U8, &[64]).map_err(|error| before("64 bytes of memory", error))?;
    let other = device.tensor(DType::U8, &[64]).map_err(|error| before("64 bytes of memory", error))?;
    stream.write(&tensor, &[1; 64]).map_err(|error| before("writing", error))?;
    let event = stream.mark().map_err(|error| before("an event", error))?;
    let oracle = anychip_reference::open(1 << 30);
    let job = Trial::new(device, &*oracle, 0).job_if_any();
    let job = job.map_err(|stop| format!("work, before the device was lost: {}", in_words(stop)))?;
    let ops: Vec<Op> = job.iter().map(|job| job.op.clone()).collect();
    let recording = stream.record(ops.clone()).map_err(|error| before("recording", error))?;
    stream.synchronize().map_err(|error| before("synchronize", error))?;
    lose();
    for turn in ["first", "second"] {
        // What is queued may notice late, synchronize may not.
        must_be_lost("synchronize", turn, stream.synchronize())?;
        must_be_lost("write", turn, stream.write(&tensor, &[2; 64]))?;
        must_be_lost("read", turn, stream.read(&tensor, &mut [0; 64]))?;
        must_be_lost("copy", turn, stream.copy(&tensor, &other))?;
        for op in &ops {
            must_be_lost("enqueue", turn, stream.enqueue(op))?;
            must_be_lost("replay", turn, stream.replay(&recording, &[]))?;
        }
        must_be_lost("mark", turn, stream.mark())?;
        must_be_lost("wait", turn, stream.wait(&event))?;
        must_be_lost("allocate", turn, device.allocate(64))?;
        must_be_lost("open_stream", turn, device.open_stream())?;
        match event.done_at() {
            Ok(Some(_)) => {}
            other => must_be_lost("done_at of an event that was done", turn, other)?,
        }
        if device.info() != info {
            return Err(format!("info must stay what it was, {info:?}, got {:?}", device.info()));
        }
    }
    Ok(())
}

fn must_be_lost<T>(call: &str, turn: &str, got: Result<T>) -> Result<(), String> {
    match got {
        Err(Error::DeviceLost { .. }) => Ok(()),
        Err(other) => Err(format!("the {turn} {call} on a lost device must say that it is lost, got: {other}")),
        Ok(_) => Err(format!("the {turn} {call} on a lost device must say that it is lost, got no error")),
    }
}
