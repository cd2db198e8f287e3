//! `anychip devices`: what there is to run on.

use super::binary;
use crate::args::DevicesArgs;
use crate::error::Failure;
use crate::output::Output;
use crate::{Outcome, devices};
use serde::Serialize;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    devices: Vec<Entry>,
    /// Names that this build knows and has no backend for.
    absent: [&'static str; 2],
}

/// A device, as reports list it.
#[derive(Serialize)]
pub(super) struct Entry {
    name: String,
    description: String,
    memory_bytes: Option<u64>,
    max_allocation: u64,
    clock: String,
    asynchronous: bool,
}

pub(crate) fn run(args: &DevicesArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let entries = list(&mut output)?;
    let absent = devices::ABSENT;
    output.line(&format!("not in this build: {}", absent.join(", ")))?;
    output.finish(&Document { schema: "anychip.devices/1", devices: entries, absent })?;
    Ok(Outcome::Passed)
}

/// Prints and returns every device of this build.
pub(super) fn list(output: &mut Output) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for name in devices::BUILT {
        let info = name.open().info();
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
    Ok(entries)
}
