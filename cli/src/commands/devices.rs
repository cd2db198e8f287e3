//! `anychip devices`: what there is to run on.

use super::binary;
use crate::args::DevicesArgs;
use crate::devices::{ABSENT, Name};
use crate::error::Failure;
use crate::output::Output;
use crate::{Outcome, interrupt};
use anychip_core::Error;
use serde::Serialize;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    devices: Vec<Entry>,
    /// Devices of this build that cannot be opened here.
    unavailable: Vec<Unavailable>,
    /// Names that this build knows and has no backend for.
    absent: &'static [&'static str],
}

/// A device, as reports list it.
#[derive(Serialize)]
struct Entry {
    name: String,
    description: String,
    memory_bytes: Option<u64>,
    max_allocation: u64,
    clock: String,
    asynchronous: bool,
}

#[derive(Serialize)]
struct Unavailable {
    name: String,
    cause: String,
    mend: String,
}

pub(crate) fn run(args: &DevicesArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let (devices, unavailable) = look(&mut output)?;
    if !ABSENT.is_empty() {
        output.line(&format!("not in this build: {}", ABSENT.join(", ")))?;
    }
    output.finish(&Document { schema: "anychip.devices/1", devices, unavailable, absent: ABSENT })?;
    Ok(Outcome::Passed)
}

/// Prints every device of this build, and which of its backends found none.
pub(super) fn list(output: &mut Output) -> Result<(), Failure> {
    look(output).map(drop)
}

fn look(output: &mut Output) -> Result<(Vec<Entry>, Vec<Unavailable>), Failure> {
    let found = Name::found();
    let (mut entries, mut unavailable) = (Vec::new(), Vec::new());
    let mut refused = Name::missing(&found);
    for name in found {
        interrupt::check()?;
        let info = match name.open() {
            Ok(device) => device.info(),
            Err(error) => {
                refused.push(error);
                continue;
            }
        };
        let memory = info.memory_bytes.map_or("memory unknown".into(), binary);
        output.line(&format!("{:<10} {:>10}  {}", info.name, memory, info.description))?;
        entries.push(Entry {
            name: info.name,
            description: info.description,
            memory_bytes: info.memory_bytes,
            max_allocation: info.max_allocation,
            clock: info.clock.to_string(),
            asynchronous: info.asynchronous,
        });
    }
    for error in refused {
        // That a device is not to be had is an answer; whatever else goes wrong is not.
        let Error::Unavailable { device: name, cause, mend } = error else { return Err(error.into()) };
        output.line(&format!("{name:<10} {:>10}  {cause}; {mend}", "none"))?;
        unavailable.push(Unavailable { name, cause, mend });
    }
    Ok((entries, unavailable))
}
