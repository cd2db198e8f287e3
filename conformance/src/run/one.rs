//! One case: the device runs it, then the oracle says what is right.

use super::{Selection, conclude, room, saved, support};
use crate::builder::{Built, Laid};
use crate::case::{Case, Check};
use crate::format_tag;
use crate::relation::{self, Stop};
use crate::report::{CaseResult, Outcome};
use crate::rules::bound::Nearest;
use crate::rules::cause::Pattern;
use crate::rules::spread::Numbers;
use crate::rules::{self, Broken, Rule, structure};
use anychip_core::ops::OpKind;
use anychip_core::{Access, Device, Error, Numerics, Op, Support, Tensor};
use anychip_reference::{Bounded, Output};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

/// Elements of an output at most, of which the report has a histogram and a failure a likely cause: both take 24 bytes each.
const MOST_NUMBERS: usize = 1 << 26;

/// What is learnt on the way to an outcome.
#[derive(Default)]
pub(crate) struct Seen<'a> {
    /// What it is judged by.
    how: Check,
    /// Where to save a failure.
    save_in: Option<&'a Path>,
    /// What is right.
    wanted: Vec<Output<Bounded>>,
    /// See [`CaseResult::spread`].
    spread: Vec<u64>,
    /// See [`CaseResult::row_ratio`].
    row_ratio: Option<f64>,
    /// See [`CaseResult::formats`].
    formats: Option<String>,
}

/// Runs a case. Gives what came of it, and what the device declared about its arithmetic where it was asked.
pub(super) fn result(
    device: &dyn Device,
    oracle: &dyn Device,
    case: &Case,
    selection: &Selection,
) -> (CaseResult, Option<Numerics>) {
    let begun = Instant::now();
    let save_in = selection.save_failures.as_deref();
    let mut seen = Seen { how: case.check(), save_in, ..Seen::default() };
    let (outcome, numerics) = judge(device, oracle, case, &mut seen);
    let (Seen { spread, row_ratio, formats, .. }, seconds) = (seen, begun.elapsed().as_secs_f64());
    let (name, op) = (case.name.clone(), case.op_name);
    let result = CaseResult { case: name, op, formats, seconds, spread, row_ratio, outcome };
    (conclude(result, case, selection), numerics)
}

/// What came of a case, and what the device declared about its arithmetic where it was asked.
fn judge(device: &dyn Device, oracle: &dyn Device, case: &Case, seen: &mut Seen<'_>) -> (Outcome, Option<Numerics>) {
    // A kernel that panics fails its case and no other. Nothing of this case is used afterwards.
    let caught = catch_unwind(AssertUnwindSafe(|| attempt(device, oracle, case, seen)));
    caught.unwrap_or_else(|panic| (failed(case, *Broken::plain(Rule::Ran, said(&*panic))), None))
}

/// What was said by who panicked.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    format!("panicked: {}", text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
}

fn failed(case: &Case, broken: Broken) -> Outcome {
    Outcome::Failed(Box::new(crate::report::Failure::of(case, broken)))
}

fn attempt(device: &dyn Device, oracle: &dyn Device, case: &Case, seen: &mut Seen<'_>) -> (Outcome, Option<Numerics>) {
    let did_not_run = |what: &str, error: Error| failed(case, *Broken::plain(Rule::Ran, format!("{what}: {error}")));
    let much = case.host_bytes() > 0;
    let _alone = much.then(room::alone);
    if let Some(reason) = room::none_on_host(case) {
        return (Outcome::Unsupported { reason }, None);
    }
    let (op, mut built) = match case.build(device) {
        Ok(Some(both)) => both,
        Ok(None) => return (promised(device, oracle, case), None),
        Err(error) => {
            let no_room = room::none_on_device(&device.info(), &error);
            let no_room = no_room.or_else(|| if much { room::none_for_much(&error) } else { None });
            return match no_room {
                Some(reason) => (Outcome::Unsupported { reason }, None),
                None => (did_not_run("the operands could not be made", error), None),
            };
        }
    };
    seen.formats = Some(format_tag::formats(&op));
    match support::stated(device, &op, &mut built) {
        Ok(Support::Native) => {}
        Ok(Support::Unsupported(reason)) => return (Outcome::Unsupported { reason: reason.to_string() }, None),
        Err(broken) => return (failed(case, *broken), None),
    }
    let numerics = device.numerics(&op);
    let before = fallbacks(device);
    let mut after = Vec::new();
    let judged = match seen.how {
        Check::Relation(relation) => match relation::hold(device, oracle, relation, &op, &mut built, case) {
            Err(Stop::Unsupported(reason)) => return (Outcome::Unsupported { reason }, Some(numerics)),
            Err(Stop::Broken(broken)) => Err(broken),
            Ok(nearest) => Ok(nearest),
        },
        _ => match run_candidate(&op, &mut built) {
            Err(error) => Err(Broken::plain(Rule::Ran, format!("the device failed: {error}"))),
            Ok(read) => {
                after = read;
                check(oracle, &op, &built, &after, &numerics, seen)
            }
        },
    };
    let mut outcome = match judged {
        Err(broken) => failed(case, *broken),
        Ok(nearest) => match fallbacks(device) {
            now if now == before => Outcome::Passed { nearest },
            now => Outcome::Fallback { ops: grown(&before, &now), nearest },
        },
    };
    if let (Outcome::Failed(failure), Some(dir)) = (&mut outcome, seen.save_in) {
        failure.saved =
            Some(match saved::save(dir, case, &device.info(), failure, &op, &built, &after, &seen.wanted) {
                Ok(file) => file.display().to_string(),
                Err(why) => why,
            });
    }
    (outcome, Some(numerics))
}

/// What came of a case of the device itself.
fn promised(device: &dyn Device, oracle: &dyn Device, case: &Case) -> Outcome {
    match case.promise().map_or(Ok(Vec::new()), |promise| promise.keep(device, oracle, case.seed())) {
        Err(Stop::Broken(broken)) => failed(case, *broken),
        Err(Stop::Unsupported(reason)) => Outcome::Unsupported { reason },
        Ok(elsewhere) if elsewhere.is_empty() => Outcome::Passed { nearest: None },
        Ok(ops) => Outcome::Fallback { ops, nearest: None },
    }
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
pub(crate) fn run_candidate(op: &Op, built: &mut Built) -> Result<Vec<Vec<u8>>, Error> {
    built.stream.enqueue(op)?;
    built.stream.synchronize()?;
    let mut after = Vec::with_capacity(built.operands.len());
    for operand in &built.laid.operands {
        let mut bytes = vec![0; operand.before().len()];
        built.stream.read(operand.whole(), &mut bytes)?;
        after.push(bytes);
    }
    Ok(after)
}

/// Operands and bands that were not to change have not.
pub(crate) fn untouched(op: &Op, built: &Laid, after: &[Vec<u8>]) -> Result<(), Box<Broken>> {
    for (name, access, tensor) in op.operands() {
        let index = index_of(built, name, &tensor)?;
        structure::untouched(name, access, &built.operands[index], &after[index])?;
    }
    Ok(())
}

fn index_of(built: &Laid, name: &str, tensor: &Tensor) -> Result<usize, Box<Broken>> {
    let foreign = || Broken::plain(Rule::Ran, format!("operand {name} was not made by the case's builder"));
    built.operand(tensor).ok_or_else(foreign)
}

/// Rules R0, R1 and R2 over what the device left behind. Only now does the oracle compute anything.
pub(crate) fn check(
    oracle: &dyn Device,
    op: &Op,
    built: &Laid,
    after: &[Vec<u8>],
    numerics: &Numerics,
    seen: &mut Seen<'_>,
) -> Result<Option<Nearest>, Box<Broken>> {
    let of_suite = |what: String| Broken::plain(Rule::Ran, what);
    untouched(op, built, after)?;
    let on_host = on_host(oracle, op, built).map_err(|e| of_suite(format!("the oracle's operands: {e}")))?;
    let of_oracle = |e| of_suite(format!("the oracle: {e}"));
    // Both at once, as two cores can: of large cases the oracle takes nearly all of the time.
    let (wanted, typical) = std::thread::scope(|scope| {
        let written = op.operands().into_iter().filter(|(_, access, _)| *access != Access::Read);
        // Of integers and bytes there is nothing typical.
        let has_numbers = written.into_iter().any(|(_, _, tensor)| tensor.dtype().is_float());
        let typical = has_numbers.then(|| scope.spawn(|| anychip_reference::typical(&on_host, numerics)));
        let wanted = anychip_reference::judge(&on_host, numerics);
        let typical = typical.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (wanted, typical.unwrap_or_else(|| Ok(Vec::new())))
    });
    seen.wanted = wanted.map_err(of_oracle)?;
    let typical = typical.map_err(of_oracle)?;
    let mut nearest: Option<Nearest> = None;
    for (name, _, tensor) in op.operands().into_iter().filter(|(_, access, _)| *access != Access::Read) {
        let index = index_of(built, name, &tensor)?;
        let got = built.operands[index].view(&after[index], &tensor);
        let Some(want) = seen.wanted.iter().find(|output| output.operand == name) else {
            return Err(of_suite(format!("the oracle says nothing about {name}, which the operation writes")));
        };
        let typical = typical.iter().find(|output| output.operand == name);
        let numbers = (tensor.count() <= MOST_NUMBERS).then(|| Numbers::of(&tensor, got, &want.values));
        numbers.iter().for_each(|numbers| numbers.count(&mut seen.spread));
        let exact = rules::exact::equal(name, &tensor, got, &want.values, seen.how);
        let within = || rules::output(name, &tensor, got, &want.values, built.expects_nan);
        let is_product = matches!(op.kind(), OpKind::Linear(_) | OpKind::ExpertGemm(_));
        let over_rows = || match typical {
            Some(typical) => rules::rows::within(name, &tensor, got, &want.values, &typical.values),
            None => Ok(None),
        };
        let judged = exact.and_then(|()| within()).and_then(|here| Ok((here, over_rows()?)));
        let even = || if is_product { rules::sign::even(name, &tensor, got, &want.values, numerics) } else { Ok(()) };
        let judged = judged.and_then(|both| even().map(|()| both));
        let (here, row) = judged.map_err(|mut broken| {
            let before = built.operands[index].view(built.operands[index].before(), &tensor);
            broken.cause = numbers.as_ref().and_then(|numbers| cause(&tensor, numbers, got, before));
            broken
        })?;
        seen.row_ratio = row.into_iter().chain(seen.row_ratio).reduce(f64::max);
        let nearer = here.filter(|here| nearest.as_ref().is_none_or(|n| here.ratio > n.ratio));
        nearest = nearer.or(nearest);
    }
    Ok(nearest)
}

/// The same operation over the same bytes in host memory.
fn on_host(oracle: &dyn Device, op: &Op, built: &Laid) -> Result<Op, Error> {
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

/// What the pattern of an output that is wrong says about the bug.
fn cause(tensor: &Tensor, numbers: &Numbers, got: &[u8], before: &[u8]) -> Option<String> {
    let Numbers { got: values, want, tolerance } = numbers;
    let size = got.len().checked_div(values.len()).filter(|&size| size > 0)?;
    let unchanged: Vec<bool> = got.chunks(size).zip(before.chunks(size)).map(|(now, then)| now == then).collect();
    // Bytes of packed codes: two columns each.
    let mut sizes = tensor.sizes().to_vec();
    if sizes.iter().product::<usize>() != values.len()
        && let Some(last) = sizes.last_mut()
    {
        *last = last.div_ceil(2);
    }
    if sizes.iter().product::<usize>() != values.len() {
        sizes = vec![values.len()];
    }
    Pattern { sizes: &sizes, got: values, want, tolerance, unchanged: &unchanged }.cause()
}
