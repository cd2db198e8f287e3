//! Running the planted faults.

use super::orders::ORDERS;
use super::peers::PEERS;
use super::report::{Catch, FamilyScore, FaultReport, FaultResult, PeerScore};
use super::{Fault, faults, faulty};
use crate::case::{Case, Check};
use crate::report::Outcome;
use crate::rules::structure::floats;
use crate::{Selection, SuiteError, run_cases};
use anychip_core::{Access, Device, Op, Result};
use anychip_reference::{Real, Values};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// What a peer needs to know of a case: what is right, and what the correct device gives.
struct Known {
    want: Vec<Vec<f64>>,
    correct: Vec<Vec<f64>>,
    /// Whether the correct device passes each peer's rule.
    passes: Vec<bool>,
}

/// Runs every planted fault over `correct`, which must be a device without faults, and `correct` itself under `seeds`
/// seeds from `seed` on. `heard` learns of each fault as it comes; `false` stops.
///
/// # Errors
/// Those of [`Selection::cases`].
pub fn score(
    correct: &Arc<dyn Device>,
    seed: u64,
    seeds: u64,
    heard: &mut dyn FnMut(&FaultResult) -> bool,
) -> Result<FaultReport, SuiteError> {
    let begun = Instant::now();
    let selection = Selection { seed, ..Selection::default() };
    let cases = selection.cases()?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let planted = faults();

    let correct_seeds: Vec<u64> = (seed..seed + seeds).collect();
    let variants = || std::iter::once(None).chain(ORDERS.iter().copied().map(Some));
    let all: Vec<(u64, Option<Fault>)> =
        correct_seeds.iter().flat_map(|&seed| variants().map(move |variant| (seed, variant))).collect();
    let alarms = |&(seed, variant): &(u64, Option<Fault>)| alarms(correct, seed, variant);
    let false_alarms: Vec<String> = spread(&all, workers, alarms, &mut |_| true).into_iter().flatten().collect();

    let known: BTreeMap<String, Known> =
        spread(&cases, workers, |case| Some((case.name.clone(), know(&**correct, case)?)), &mut |_| true)
            .into_iter()
            .flatten()
            .collect();
    let mut results = spread(&planted, workers, |fault| judge(correct, *fault, &cases, &selection, &known), heard);
    results.sort_by_key(|r| planted.iter().position(|f| f.name == r.name));

    let caught = results.iter().filter(|r| r.caught.is_some()).count();
    let missed = results.iter().filter(|r| r.caught.is_none()).map(|r| r.name).collect();
    let mut families: Vec<FamilyScore> = Vec::new();
    for r in &results {
        if families.last().is_none_or(|f| f.family != r.family) {
            families.push(FamilyScore { family: r.family, caught: 0, planted: 0 });
        }
        if let Some(family) = families.last_mut() {
            family.planted += 1;
            family.caught += usize::from(r.caught.is_some());
        }
    }
    let of_floats: Vec<&Vec<bool>> = results.iter().filter_map(|r| r.peers.as_ref()).collect();
    let peer = |(i, peer): (usize, &super::peers::Peer)| PeerScore {
        name: peer.name,
        rule: peer.rule,
        caught: of_floats.iter().filter(|p| p[i]).count(),
        of: of_floats.len(),
        false_alarms: known.values().filter(|k| !k.passes[i]).count(),
    };
    let passed = caught == planted.len() && false_alarms.is_empty();
    Ok(FaultReport {
        schema: "anychip.faults/1",
        suite: env!("CARGO_PKG_VERSION"),
        device: correct.info().name,
        seed,
        correct_seeds,
        correct_orders: ORDERS.iter().map(|order| order.name).collect(),
        planted: planted.len(),
        caught,
        missed,
        false_alarms,
        families,
        peers: PEERS.iter().enumerate().map(peer).collect(),
        results,
        seconds: begun.elapsed().as_secs_f64(),
        passed,
    })
}

/// What fails of a correct device: the one that faults are planted in, or that one with sums in another order.
fn alarms(correct: &Arc<dyn Device>, seed: u64, order: Option<Fault>) -> Vec<String> {
    let selection = Selection { seed, ..Selection::default() };
    let mut cases = selection.cases().unwrap_or_default();
    let report = match order {
        None => run_cases(&**correct, &cases, &selection, &mut |_| true),
        Some(order) => {
            // A relation compares the device with itself, whatever its order.
            cases.retain(|case| order.ops.contains(&case.op_name) && !matches!(case.check(), Check::Relation(_)));
            run_cases(&faulty(correct.clone(), order), &cases, &selection, &mut |_| true)
        }
    };
    let name = order.map_or("", |order| order.name);
    report.failures().map(|failure| format!("{name} {failure}").trim().to_string()).collect()
}

/// `work` on each item, on several threads; results in any order. `heard` runs here.
fn spread<T: Sync, R: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T) -> R + Sync,
    heard: &mut dyn FnMut(&R) -> bool,
) -> Vec<R> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (results, received) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            let (results, next, stop, work) = (results.clone(), &next, &stop, &work);
            scope.spawn(move || {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) || results.send(work(item)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        let mut all = Vec::new();
        for result in received {
            if !heard(&result) {
                stop.store(true, Ordering::Relaxed);
            }
            all.push(result);
        }
        all
    })
}

fn judge(
    correct: &Arc<dyn Device>,
    fault: Fault,
    cases: &[Case],
    selection: &Selection,
    known: &BTreeMap<String, Known>,
) -> FaultResult {
    let cases: Vec<Case> = cases.iter().filter(|case| fault.ops.contains(&case.op_name)).cloned().collect();
    let device = faulty(correct.clone(), fault);
    let (mut caught, mut count) = (None, 0);
    run_cases(&device, &cases, selection, &mut |result| {
        count += 1;
        if let Outcome::Failed(failure) = &result.outcome {
            let (case, message) = (result.case.clone(), failure.message.clone());
            caught = Some(Catch { case, rule: failure.rule, message });
        }
        caught.is_none()
    });
    // A device of its own: what a fault remembers begins anew.
    let device = faulty(correct.clone(), fault);
    let mut peers: Option<Vec<bool>> = None;
    for case in &cases {
        let Some(known) = known.get(&case.name) else { continue };
        let seen = peers.get_or_insert_with(|| vec![false; PEERS.len()]);
        // A case that does not run is noticed by everybody.
        let got = outputs(&device, case).ok();
        for (i, peer) in PEERS.iter().enumerate().filter(|(i, _)| known.passes[*i]) {
            let holds = |got: &Vec<Vec<f64>>| {
                let all = got.iter().zip(&known.want).zip(&known.correct);
                all.into_iter().all(|((got, want), correct)| passes(peer.passes, got, want, correct))
            };
            seen[i] |= !got.as_ref().is_some_and(holds);
        }
    }
    let Fault { name, family, ops, bug, needs, .. } = fault;
    FaultResult { name, family, ops, bug, needs, cases: count, caught, peers }
}

/// A peer's rule over what is a number; what is none has to be the same.
fn passes(rule: fn(&[f64], &[f64], &[f64]) -> bool, got: &[f64], want: &[f64], correct: &[f64]) -> bool {
    let numbers: Vec<usize> = (0..want.len()).filter(|&i| want[i].is_finite() && correct[i].is_finite()).collect();
    let other = (0..want.len()).filter(|&i| !(want[i].is_finite() && correct[i].is_finite()));
    let mut same = other.map(|i| got[i] == correct[i] || got[i].is_nan() && correct[i].is_nan());
    let of = |values: &[f64]| numbers.iter().map(|&i| values[i]).collect::<Vec<_>>();
    same.all(|same| same) && rule(&of(got), &of(want), &of(correct))
}

/// The float outputs of a case on a device.
fn outputs(device: &dyn Device, case: &Case) -> Result<Vec<Vec<f64>>> {
    let Some((op, mut built)) = case.build(device)? else { return Ok(Vec::new()) };
    built.stream.enqueue(&op)?;
    built.stream.synchronize()?;
    let mut all = Vec::new();
    for (_, access, tensor) in op.operands() {
        if access != Access::Read && tensor.dtype().is_float() {
            let mut bytes = vec![0; tensor.bytes() as usize];
            built.stream.read(&tensor, &mut bytes)?;
            all.push(floats(tensor.dtype(), &bytes));
        }
    }
    Ok(all)
}

/// What is right for a case, and what the correct device gives; nothing where no output is of floats.
fn know(device: &dyn Device, case: &Case) -> Option<Known> {
    let oracle = anychip_reference::open(u64::MAX / 2);
    let op: Op = case.op(&*oracle).ok()??;
    let judged = anychip_reference::judge(&op, &device.numerics(&op)).ok()?;
    let mut want = Vec::new();
    for (name, access, tensor) in op.operands() {
        if access != Access::Read && tensor.dtype().is_float() {
            let output = judged.iter().find(|o| o.operand == name)?;
            let Values::Real(values) = &output.values else { return None };
            want.push(values.iter().map(|v| v.value()).collect::<Vec<f64>>());
        }
    }
    let correct = outputs(device, case).ok()?;
    if want.iter().all(Vec::is_empty) {
        return None;
    }
    let all = |rule| want.iter().zip(&correct).all(|(want, correct)| passes(rule, correct, want, correct));
    let of_peers = PEERS.iter().map(|peer| all(peer.passes)).collect();
    Some(Known { passes: of_peers, want, correct })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_handful_of_faults_end_to_end() {
        let correct: Arc<dyn Device> = anychip_cpu::open().into();
        let names = ["k_last_dropped", "nibbles_swapped", "sink_ignored", "ties_to_the_highest", "comb_not_transposed"];
        let selection = Selection::default();
        let cases = selection.cases().unwrap();
        for fault in faults().into_iter().filter(|f| names.contains(&f.name)) {
            let result = judge(&correct, fault, &cases, &selection, &BTreeMap::new());
            assert!(result.caught.is_some(), "{}", fault.name);
        }
    }

    #[test]
    fn a_device_without_faults_is_not_caught() {
        let correct: Arc<dyn Device> = anychip_cpu::open().into();
        let none = Fault::new("none", "none", &["hadamard"], "None.", |b, op| b.run(op));
        let selection = Selection::default();
        let result = judge(&correct, none, &selection.cases().unwrap(), &selection, &BTreeMap::new());
        assert!(result.caught.is_none() && result.cases >= 3);
    }
}
