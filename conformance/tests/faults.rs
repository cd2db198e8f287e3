//! Planted faults are caught, by the rule that is there for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{Report, Rule, Selection, run_cases};
use anychip_core::{Access, DType, Op, Result, Tensor, ops};
use common::{Bench, Fault, beside, faulty, operand};
use half::{bf16, f16};
use std::collections::BTreeSet;

fn report(fault: Fault, ops: &[&str]) -> Report {
    let selection = Selection { ops: ops.iter().map(|op| op.to_string()).collect(), ..Selection::default() };
    // Two runs with one fault are equal: relations are no judge of these.
    let cases = selection.cases().unwrap().into_iter().filter(|c| !["/r4-", "/r5-"].iter().any(|r| c.name.contains(r)));
    run_cases(&faulty(fault), &cases.collect::<Vec<_>>(), &selection, &mut |_| true)
}

/// Every operation has cases that fail, by `rule`; `share` is the least part of all cases that do.
fn assert_caught(fault: Fault, ops: &[&str], rule: Rule, share: f64) -> Report {
    let report = report(fault, ops);
    assert!(!report.passed);
    for summary in &report.ops {
        assert!(summary.counts.failed > 0, "{} passes with the fault:\n{}", summary.op, report.matrix());
    }
    let rules: BTreeSet<String> = report.failures().map(|f| f.rule.to_string()).collect();
    assert!(rules.contains(&rule.to_string()), "{rules:?}");
    let caught = report.counts.failed as f64 / report.counts.selected as f64;
    assert!(caught >= share, "caught in {caught} of the cases:\n{}", report.matrix());
    report
}

fn is_written(access: Access, _: &Tensor) -> bool {
    access != Access::Read
}

fn float_at(dtype: DType, bytes: &mut [u8], index: usize, f: impl Fn(f32) -> f32) -> f32 {
    match dtype {
        DType::F32 => {
            let at = &mut bytes[4 * index..4 * index + 4];
            let x = f(f32::from_le_bytes(at.try_into().unwrap()));
            at.copy_from_slice(&x.to_le_bytes());
            x
        }
        DType::BF16 => {
            let at = &mut bytes[2 * index..2 * index + 2];
            let x = bf16::from_f32(f(bf16::from_le_bytes(at.try_into().unwrap()).to_f32()));
            at.copy_from_slice(&x.to_le_bytes());
            x.to_f32()
        }
        _ => {
            let at = &mut bytes[2 * index..2 * index + 2];
            let x = f16::from_f32(f(f16::from_le_bytes(at.try_into().unwrap()).to_f32()));
            at.copy_from_slice(&x.to_le_bytes());
            x.to_f32()
        }
    }
}

/// One element of the first output is off: a number by 3 %, anything else by one bit.
fn one_element_off(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(out) = operand(op, is_written) else { return Ok(()) };
    bench.change(&out, |bytes| {
        if !out.dtype().is_float() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            return;
        }
        let value = |bytes: &mut [u8], i| float_at(out.dtype(), bytes, i, |x| x).abs();
        let finite: Vec<usize> = (0..out.count()).filter(|&i| value(bytes, i).is_finite()).collect();
        let largest = finite.into_iter().max_by(|&a, &b| value(bytes, a).total_cmp(&value(bytes, b)));
        largest.map(|i| float_at(out.dtype(), bytes, i, |x| x * 1.03));
    })
}

#[test]
fn one_element_that_is_off() {
    assert_caught(one_element_off, &[], Rule::R2, 0.9);
}

/// The last column of `x` takes no part.
fn last_column_dropped(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let op = bench.with_other(op, "x", |x, bytes| {
        let (row_bits, bits) = (x.size(2) as u64 * x.dtype().bits(), x.dtype().bits());
        for row in bytes.chunks_mut((row_bits / 8).max(1) as usize) {
            let end = row.len() - 1;
            match bits {
                4 => row[end] &= 0x0F,
                bits => row[end + 1 - bits as usize / 8..].fill(0),
            }
        }
    })?;
    bench.run(&op)
}

#[test]
fn a_sum_that_ends_too_soon() {
    assert_caught(last_column_dropped, &["linear", "expert_gemm", "expert_ffn"], Rule::R2, 0.8);
}

/// The scales of `w` are read one block too far.
fn scales_shifted(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let op = bench.with_other(op, "w scales", |t, bytes| bytes.rotate_left(t.dtype().bits() as usize / 8))?;
    bench.run(&op)
}

#[test]
fn scales_from_the_wrong_place() {
    let report = report(scales_shifted, &["linear", "expert_gemm"]);
    for summary in &report.ops {
        assert!(summary.counts.failed >= 3, "{}", report.matrix());
    }
}

fn one_byte_behind(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(out) = operand(op, is_written) else { return Ok(()) };
    bench.change(&beside(&out, out.offset() + out.bytes())?, |byte| byte[0] ^= 0x10)
}

fn one_byte_before(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(out) = operand(op, is_written) else { return Ok(()) };
    bench.change(&beside(&out, out.offset() - 1)?, |byte| byte[0] = 0)
}

#[test]
fn a_write_out_of_bounds() {
    for fault in [one_byte_behind as Fault, one_byte_before] {
        let report = assert_caught(fault, &[], Rule::R0, 0.95);
        assert!(report.failures().all(|f| f.rule == Rule::R0 && f.message.contains("guard band")));
    }
}

fn input_written(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(input) = operand(op, |access, _| access == Access::Read) else { return Ok(()) };
    bench.change(&input, |bytes| bytes.iter_mut().for_each(|b| *b = b.wrapping_add(1)))
}

#[test]
fn an_input_that_is_written() {
    let report = assert_caught(input_written, &[], Rule::R0, 0.95);
    assert!(report.failures().all(|f| f.message.contains("it is an input and was written")));
}

#[test]
fn an_output_that_is_left_unwritten() {
    assert_caught(|_, _| Ok(()), &[], Rule::R0, 0.9);
}

/// The last element of each output stays as it was.
fn last_element_unwritten(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let mut last = Vec::new();
    for (_, access, tensor) in op.operands() {
        if access == Access::Write && tensor.bytes() > 0 {
            let size = tensor.dtype().bits().div_ceil(8);
            let offset = tensor.offset() + tensor.bytes() - size;
            last.push(Tensor::new(tensor.buffer(), offset, DType::U8, &[size as usize])?);
        }
    }
    let mut before = Vec::new();
    for tensor in &last {
        bench.change(tensor, |bytes| before.push(bytes.clone()))?;
    }
    bench.run(op)?;
    last.iter().zip(before).try_for_each(|(tensor, bytes)| bench.change(tensor, |now| *now = bytes))
}

#[test]
fn one_element_that_is_left_unwritten() {
    let writers: Vec<&str> = ops::NAMES.iter().copied().filter(|&op| op != "kv_store").collect();
    assert_caught(last_element_unwritten, &writers, Rule::R0, 0.9);
}

fn nan_where_finite(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(out) = operand(op, |access, t| access != Access::Read && t.dtype().is_float()) else { return Ok(()) };
    bench.change(&out, |bytes| {
        float_at(out.dtype(), bytes, 0, |x| if x.is_finite() { f32::NAN } else { x });
    })
}

#[test]
fn nan_where_there_is_a_number() {
    let exact = ["top_k", "kv_store", "quantize"];
    let floats: Vec<&str> = ops::NAMES.iter().copied().filter(|op| !exact.contains(op)).collect();
    let report = assert_caught(nan_where_finite, &floats, Rule::R0, 0.9);
    assert!(report.failures().all(|f| f.got == "NaN"));
}

#[test]
fn a_kernel_that_panics_fails_its_case_alone() {
    let panics: Fault = |bench, op| if op.name() == "rope" { panic!("index out of bounds") } else { bench.run(op) };
    let report = report(panics, &["rope", "swiglu"]);
    let failed: BTreeSet<&str> = report.failures().map(|f| f.op).collect();
    assert_eq!(failed, BTreeSet::from(["rope"]));
    assert!(report.failures().all(|f| f.rule == Rule::Ran && f.message.contains("index out of bounds")));
}
