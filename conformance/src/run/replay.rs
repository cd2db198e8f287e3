//! Saved failures, run again over the bytes in their files.

use super::saved::{SCHEMA, layout};
use super::{Selection, run_cases};
use crate::SuiteError;
use crate::builder::{Built, Contents};
use crate::case::Case;
use crate::report::Report;
use anychip_core::{Access, Device, Op};
use safetensors::SafeTensors;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A saved failure, and how the same operation over the same bytes comes out now.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// Name of the case.
    pub case: String,
    /// The device that failed.
    pub saved_device: String,
    /// How it failed then.
    pub saved_message: String,
    /// Whether the inputs in the file, which ran, are those that the case's name stands for. They are not where the file
    /// was edited, where the suite has changed, and of exact sums where the device declares another accumulator.
    pub same_inputs: bool,
    /// The operands whose contents are others.
    pub other_inputs: Vec<&'static str>,
    /// The case on the device at hand.
    pub report: Report,
}

/// Runs a saved failure again: the file gives the contents of the operands, its case's name the operation, the shapes and
/// the judgement. A relation between two runs makes its other forms from the contents in the file.
///
/// # Errors
/// [`SuiteError::Saved`] for a file that is none, that cannot be read, or whose tensors are not those of the operation;
/// those of [`Selection::cases`] where there is no such case any more.
pub fn replay(device: &dyn Device, file: &Path, selection: &Selection) -> Result<Replayed, SuiteError> {
    let failed = |reason: String| SuiteError::Saved { file: file.display().to_string(), reason };
    let bytes = std::fs::read(file).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let none = |error: &dyn std::fmt::Display| failed(format!("no saved failure: {error}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| none(&error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| none(&error))?;
    let about = header.metadata().clone().unwrap_or_default();
    let said = |key: &str| about.get(key).cloned().ok_or_else(|| none(&format!("its metadata have no `{key}`")));
    if said("schema")? != SCHEMA {
        return Err(none(&format!("its schema is `{}`, not `{SCHEMA}`", said("schema")?)));
    }
    let (name, saved_device, saved_message) = (said("case")?, said("device")?, said("message")?);
    let selection = Selection { case: Some(name.clone()), ops: Vec::new(), ..selection.clone() };
    let mut other_inputs = Vec::new();
    let mut cases = Vec::new();
    for case in selection.cases()? {
        let made = case.build(device);
        let made = made.map_err(|error| failed(format!("the operands of {name} cannot be made: {error}")))?;
        let of_device = || none(&format!("{name} is of the device itself and has no operands; run it by its name"));
        let (op, built) = made.ok_or_else(of_device)?;
        let before = contents(&op, &tensors).map_err(|reason| failed(format!("{reason}, in {name}")))?;
        other_inputs.extend(others(&op, &built, &before));
        cases.push(Case::over(case, Contents { before, differ: !other_inputs.is_empty() }));
    }
    let report = run_cases(device, &cases, &selection, &mut |_| true);
    let same_inputs = other_inputs.is_empty();
    Ok(Replayed { case: name, saved_device, saved_message, same_inputs, other_inputs, report })
}

/// The operands' contents in the file, each as the operation wants it. Otherwise what is wrong, in words.
fn contents(op: &Op, saved: &SafeTensors<'_>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut all = BTreeMap::new();
    for (name, _, tensor) in op.operands() {
        let (dtype, shape) = layout(tensor.dtype(), tensor.sizes(), tensor.bytes() as usize);
        let want = format!("{dtype:?} {shape:?}");
        let found = saved.tensor(&format!("before/{name}"));
        let found = found.map_err(|_| format!("before/{name} is not in the file: want {want}, got nothing"))?;
        if (found.dtype(), found.shape()) != (dtype, &shape[..]) {
            return Err(format!("before/{name}: want {want}, got {:?} {:?}", found.dtype(), found.shape()));
        }
        all.insert(name.to_owned(), found.data().to_vec());
    }
    let stray = saved.names().into_iter().filter_map(|name| name.strip_prefix("before/"));
    match stray.into_iter().find(|name| !all.contains_key(*name)) {
        Some(name) => Err(format!("before/{name}: {} has no such operand", op.name())),
        None => Ok(all),
    }
}

/// Operands that the operation reads and whose contents are not what the case made.
fn others(op: &Op, built: &Built, before: &BTreeMap<String, Vec<u8>>) -> Vec<&'static str> {
    let read = op.operands().into_iter().filter(|(_, access, _)| *access != Access::Write);
    let differs = read.filter(|(name, _, tensor)| {
        let made = built.operand(tensor).map(|index| &built.operands[index]);
        made.is_none_or(|made| before.get(*name).is_none_or(|saved| made.view(made.before(), tensor) != saved))
    });
    differs.map(|(name, ..)| name).collect()
}
