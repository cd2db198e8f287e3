//! One case: the device runs it, then the oracle says what is right.

use crate::builder::Built;
use crate::case::Case;
use crate::report::Outcome;
use crate::rules::bound::Nearest;
use crate::rules::{self, Broken, Rule, structure};
use anychip_core::{Access, Device, Error, Numerics, Op, Support, Tensor};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of a case, and what the device declared about its arithmetic where it was asked.
pub(super) fn judge(device: &dyn Device, oracle: &dyn Device, case: &Case) -> (Outcome, Option<Numerics>) {
    // A kernel that panics fails its case and no other. Nothing of this case is used afterwards.
    let caught = catch_unwind(AssertUnwindSafe(|| attempt(device, oracle, case)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        (failed(case, *Broken::plain(Rule::Ran, format!("panicked: {text}"))), None)
    })
}

fn failed(case: &Case, broken: Broken) -> Outcome {
    Outcome::Failed(Box::new(crate::report::Failure::of(case, broken)))
}

fn attempt(device: &dyn Device, oracle: &dyn Device, case: &Case) -> (Outcome, Option<Numerics>) {
    let did_not_run = |what: &str, error: Error| failed(case, *Broken::plain(Rule::Ran, format!("{what}: {error}")));
    let (op, mut built) = match case.build(device) {
        Ok(both) => both,
        Err(error) => return (did_not_run("the operands could not be made", error), None),
    };
    if let Support::Unsupported(reason) = device.supports(&op) {
        return (Outcome::Unsupported { reason: reason.to_string() }, None);
    }
    let numerics = device.numerics(&op);
    let before = fallbacks(device);
    let after = match run_candidate(&op, &mut built) {
        Ok(after) => after,
        Err(error) => return (did_not_run("the device failed", error), Some(numerics)),
    };
    let outcome = match check(oracle, &op, &built, &after, &numerics) {
        Err(broken) => failed(case, *broken),
        Ok(nearest) => match fallbacks(device) {
            now if now == before => Outcome::Passed { nearest },
            now => Outcome::Fallback { ops: grown(&before, &now), nearest },
        },
    };
    (outcome, Some(numerics))
}

fn fallbacks(device: &dyn Device) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    device.fallbacks().into_iter().for_each(|(op, count)| *all.entry(op).or_default() += count);
    all
}

fn grown(before: &BTreeMap<&'static str, u64>, now: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    now.iter().filter(|(op, count)| before.get(*op) != Some(count)).map(|(&op, _)| op).collect()
}

/// Runs the operation and reads back every buffer, bands included.
fn run_candidate(op: &Op, built: &mut Built) -> Result<Vec<Vec<u8>>, Error> {
    built.stream.enqueue(op)?;
    built.stream.synchronize()?;
    let mut after = Vec::with_capacity(built.operands.len());
    for operand in &built.operands {
        let mut bytes = vec![0; operand.before().len()];
        built.stream.read(operand.whole(), &mut bytes)?;
        after.push(bytes);
    }
    Ok(after)
}

/// Rules R0 and R2 over what the device left behind. Only now does the oracle compute anything.
fn check(
    oracle: &dyn Device,
    op: &Op,
    built: &Built,
    after: &[Vec<u8>],
    numerics: &Numerics,
) -> Result<Option<Nearest>, Box<Broken>> {
    let of_suite = |what: String| Broken::plain(Rule::Ran, what);
    let index_of = |name: &str, tensor: &Tensor| {
        built.operand(tensor).ok_or_else(|| of_suite(format!("operand {name} was not made by the case's builder")))
    };
    for (name, access, tensor) in op.operands() {
        let index = index_of(name, &tensor)?;
        structure::untouched(name, access, &built.operands[index], &after[index])?;
    }
    let on_host = on_host(oracle, op, built).map_err(|e| of_suite(format!("the oracle's operands: {e}")))?;
    let wanted = anychip_reference::judge(&on_host, numerics).map_err(|e| of_suite(format!("the oracle: {e}")))?;
    let mut nearest: Option<Nearest> = None;
    for (name, _, tensor) in op.operands().into_iter().filter(|(_, access, _)| *access != Access::Read) {
        let index = index_of(name, &tensor)?;
        let got = built.operands[index].view(&after[index], &tensor);
        let Some(want) = wanted.iter().find(|output| output.operand == name) else {
            return Err(of_suite(format!("the oracle says nothing about {name}, which the operation writes")));
        };
        let here = rules::output(name, &tensor, got, &want.values, built.expects_nan)?;
        let nearer = here.filter(|here| nearest.as_ref().is_none_or(|n| here.ratio > n.ratio));
        nearest = nearer.or(nearest);
    }
    Ok(nearest)
}

/// The same operation over the same bytes in host memory.
fn on_host(oracle: &dyn Device, op: &Op, built: &Built) -> Result<Op, Error> {
    let mut stream = oracle.open_stream()?;
    op.rebind(&mut |_, _, tensor| {
        let host = oracle.tensor(tensor.dtype(), tensor.sizes())?;
        if let Some(index) = built.operand(tensor) {
            let operand = &built.operands[index];
            stream.write(&host, operand.view(operand.before(), tensor))?;
        }
        Ok(host)
    })
}
