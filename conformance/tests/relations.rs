//! R1, R4 and R5: planted faults that stay within every bound are caught by the rule that is there for them, and a device
//! that declares less is not failed for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{Outcome, Profile, Report, Rule, Selection, cases, run, run_cases};
use anychip_core::forward::{Hooks, Recordings, Wrapped};
use anychip_core::ops::{Linear, OpKind};
use anychip_core::{Access, DType, Determinism, Device, Numerics, Op, Result, Tensor};
use common::{Bench, Fault, faulty, operand};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

/// Cases of R1, R4 and R5 alone.
fn related(device: &dyn Device, seed: u64) -> Report {
    let of_rules = ["/r1-", "/r4-", "/r5-"];
    let all = cases(Profile::Quick, seed);
    let some: Vec<_> = all.into_iter().filter(|case| of_rules.iter().any(|rule| case.name.contains(rule))).collect();
    run_cases(device, &some, &Selection { seed, ..Selection::default() }, &mut |_| true)
}

fn of(fault: Fault, ops: &[&str]) -> Report {
    let ops = ops.iter().map(|op| op.to_string()).collect();
    run(&faulty(fault), &Selection { ops, ..Selection::default() }, &mut |_| true).unwrap()
}

/// Failures by the second part of the case's name, and the rules they name.
fn failed(report: &Report) -> BTreeMap<String, Vec<Rule>> {
    let mut all: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for failure in report.failures() {
        let part = failure.case.split('/').nth(1).unwrap_or_default();
        let part = if part.starts_with('r') && part[1..2].parse::<u8>().is_ok() { part } else { "bound" };
        all.entry(part.into()).or_default().push(failure.rule);
    }
    all
}

fn assert_passes(device: &dyn Device, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let begun = Instant::now();
        let report = related(device, seed);
        println!("{} {} cases, {:.1} s", device.info().name, report.counts.selected, begun.elapsed().as_secs_f64());
        assert!(report.passed, "{}", report.matrix());
        assert_eq!(report.counts.executed, report.counts.selected);
    }
}

#[test]
fn cpu_keeps_all_relations() {
    assert_passes(&*anychip_cpu::open(), 0..5);
}

#[test]
fn reference_keeps_all_relations() {
    assert_passes(&*anychip_reference::open(4 << 30), 0..5);
}

/// Every relation has cases, and every operation is repeated.
#[test]
fn the_catalogue_has_each_relation() {
    let all = cases(Profile::Quick, 0);
    let with =
        |part: &str| all.iter().filter(|case| case.name.contains(part)).map(|case| case.op_name).collect::<Vec<_>>();
    for part in
        ["/r1-exact/", "/r4-permute/", "/r4-neighbour/", "/r4-relocate/", "/r4-masked/", "/r4-scaled/", "/r5-batch/"]
    {
        assert!(with(part).len() >= 6, "{part}");
    }
    let repeated = with("/r5-repeat/");
    assert!(anychip_core::ops::NAMES.iter().all(|op| repeated.contains(op)));
}

fn is_f32_out(access: Access, t: &Tensor) -> bool {
    access != Access::Read && t.dtype() == DType::F32
}

/// Adds to each f32 of the first output, within its last places.
fn nudge(bench: &mut Bench<'_>, op: &Op, by: impl Fn(usize, &[f32]) -> i32) -> Result<()> {
    let Some(out) = operand(op, is_f32_out) else { return Ok(()) };
    bench.change(&out, |bytes| {
        let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        for (i, x) in values.iter().enumerate().filter(|(_, x)| x.is_normal()) {
            bytes[4 * i..][..4].copy_from_slice(&(x.to_bits().wrapping_add_signed(by(i, &values))).to_le_bytes());
        }
    })
}

thread_local! {
    static RUNS: Cell<usize> = const { Cell::new(0) };
}

/// Now and then a sum ends in another order.
fn nondeterministic(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let run = RUNS.replace(RUNS.get() + 1);
    if run % 7 == 3 { nudge(bench, op, |i, _| (i % 5 == 0) as i32) } else { Ok(()) }
}

#[test]
fn a_reduction_without_order_is_no_run_to_run() {
    let report = of(nondeterministic, &["linear", "hyper_head"]);
    let failed = failed(&report);
    assert!(failed["r5-repeat"].len() >= 5 && failed["r5-repeat"].iter().all(|&rule| rule == Rule::R5), "{failed:?}");
    let repeat = report.failures().find(|f| f.case.contains("r5-repeat")).unwrap();
    assert!(repeat.message.contains("differs from the first, though the device declares BatchInvariant"), "{repeat}");
}

fn linear(op: &Op) -> Option<&Linear> {
    let OpKind::Linear(linear) = op.kind() else { return None };
    let plain = [&linear.x, &linear.w].iter().all(|m| m.codes().dtype() == DType::F32) && linear.w.groups() == 1;
    (plain && linear.out.dtype() == DType::F32).then_some(linear)
}

/// A linear layer whose sums are these.
fn with_sums(bench: &mut Bench<'_>, linear: &Linear, sum: impl Fn(&[f32], &[f32]) -> f32) -> Result<()> {
    let mut read = |tensor: &Tensor| -> Result<Vec<f32>> {
        let mut values = Vec::new();
        bench.change(tensor, |bytes| {
            values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())));
        })?;
        Ok(values)
    };
    let (x, w, k) = (read(linear.x.codes())?, read(linear.w.codes())?, linear.w.cols());
    let out = x.chunks(k).flat_map(|x| w.chunks(k).map(|w| sum(x, w)).collect::<Vec<_>>());
    let out: Vec<u8> = out.flat_map(f32::to_le_bytes).collect();
    bench.change(&linear.out, |bytes| *bytes = out)
}

fn dot(x: &[f32], w: &[f32]) -> f32 {
    x.iter().zip(w).fold(0.0, |sum, (x, w)| x.mul_add(*w, sum))
}

/// From eight rows on, K is split in two.
fn split_by_batch(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let Some(op) = linear(op) else { return bench.run(op) };
    let split = if op.x.rows() >= 8 { op.w.cols() / 2 } else { 0 };
    with_sums(bench, op, |x, w| dot(&x[..split], &w[..split]) + dot(&x[split..], &w[split..]))
}

#[test]
fn a_split_by_the_size_of_the_batch_is_not_batch_invariant() {
    let report = of(split_by_batch, &["linear"]);
    let failed = failed(&report);
    assert_eq!(failed.keys().collect::<Vec<_>>(), ["r5-batch"], "{}", report.matrix());
    assert!(failed["r5-batch"].iter().all(|&rule| rule == Rule::R5));
    assert!(report.failures().next().unwrap().message.contains("of 8 rows"), "{}", report.matrix());
}

/// Keeps 13 bits of every partial sum, and says nothing about it.
fn thirteen_bits(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let Some(op) = linear(op) else { return bench.run(op) };
    let kept = |x: f32| f32::from_bits(x.to_bits().wrapping_add(1 << 10) & !((1 << 11) - 1));
    with_sums(bench, op, |x, w| x.iter().zip(w).fold(0.0, |sum, (x, w)| kept(sum + x * w)))
}

/// One bit short of f32.
fn one_bit_short(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let Some(op) = linear(op) else { return bench.run(op) };
    with_sums(bench, op, |x, w| {
        x.iter().zip(w).fold(0.0, |sum, (x, w)| f32::from_bits(x.mul_add(*w, sum).to_bits() & !1))
    })
}

#[test]
fn an_accumulator_narrower_than_declared_is_seen_in_exact_sums() {
    for fault in [thirteen_bits as Fault, one_bit_short] {
        let report = of(fault, &["linear"]);
        assert_eq!(failed(&report)["r1-exact"], [Rule::R1], "{}", report.matrix());
    }
    // A last bit that is cut off leaves no element outside of its bound: only exact sums and long rows show it.
    let report = of(one_bit_short, &["linear"]);
    let rules: Vec<Rule> = report.failures().map(|failure| failure.rule).collect();
    assert!(rules.iter().all(|rule| [Rule::R1, Rule::R3].contains(rule)), "{}", report.matrix());
}

/// Each row takes up a trace of the one before it.
fn mixes_rows(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(out) = operand(op, is_f32_out) else { return Ok(()) };
    let width = out.count() / out.size(0).max(1);
    nudge(bench, op, |i, all| match i.checked_sub(width) {
        Some(before) if !all[before].is_finite() => 1 << 24,
        Some(before) => (all[before].to_bits() % 2) as i32,
        None => 0,
    })
}

#[test]
fn a_row_that_sees_its_neighbour() {
    let report = of(mixes_rows, &["linear", "swiglu", "hyper_post", "dense_attention"]);
    let failed = failed(&report);
    assert!(failed["r4-neighbour"].len() >= 6 && failed["r4-neighbour"].iter().all(|&r| r == Rule::R4), "{failed:?}");
}

/// Where a page lies, or how long a list is, shows in the last place.
fn sees_addresses(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let mut seen = 0;
    for (name, _, tensor) in op.operands() {
        match name {
            "page table" => {
                bench.change(&tensor, |bytes| seen += i32::from_le_bytes(bytes[..4].try_into().unwrap()))?
            }
            "entries" => seen += tensor.size(1) as i32 / 64,
            _ => {}
        }
    }
    nudge(bench, op, |i, _| (i as i32 + seen).rem_euclid(2))
}

#[test]
fn a_result_that_depends_on_places() {
    let report = of(sees_addresses, &["sparse_attention", "index_scores"]);
    let failed = failed(&report);
    for part in ["r4-relocate", "r4-masked"] {
        assert!(failed[part].contains(&Rule::R4) && failed[part].iter().all(|&rule| rule == Rule::R4), "{failed:?}");
    }
}

/// A constant that is added to every product: small, but not in proportion.
fn offset(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let Some(op) = linear(op) else { return bench.run(op) };
    with_sums(bench, op, |x, w| dot(x, w) + 2e-7)
}

#[test]
fn a_result_out_of_proportion() {
    let failed = failed(&of(offset, &["linear"]));
    assert!(failed["r4-scaled"].iter().all(|&rule| rule == Rule::R4), "{failed:?}");
}

/// Declares another class.
struct Declares(Determinism);

impl Hooks for Declares {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::Whole
    }

    fn numerics(&self, inner: &dyn Device, op: &Op) -> Numerics {
        Numerics { determinism: self.0, ..inner.numerics(op) }
    }
}

#[test]
fn who_claims_a_lower_class_passes_with_it() {
    // Operations whose results are never exact: there a last place is always free.
    let loose: &[&str] = &["sparse_attention", "rms_norm", "swiglu", "hyper_head"];
    for (fault, class, ops) in
        [(nondeterministic as Fault, Determinism::None, loose), (split_by_batch, Determinism::RunToRun, &["linear"])]
    {
        let device = Wrapped::new(Box::new(faulty(fault)), Declares(class));
        let report = related(&device, 1);
        for result in report.results.iter().filter(|result| ops.contains(&result.op)) {
            assert!(matches!(result.outcome, Outcome::Passed { .. }), "{}", report.matrix());
        }
    }
}
