//! Saved failures run again over the bytes in their files, whoever wrote these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{Replayed, Rule, Selection, SuiteError, replay, run};
use anychip_core::{Access, Op, Result};
use common::{Bench, Fault, faulty, operand};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Short enough that each of its bytes can be spoilt.
const CASE: &str = "rope/near/f32-f32/t5-h3-d48-r16/seed0";

/// The inputs of the wrong sign.
fn backwards(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let other = bench.with_other(op, "x", |_, bytes| bytes.iter_mut().skip(3).step_by(4).for_each(|b| *b ^= 0x80))?;
    bench.run(&other)
}

/// Wrong where the first element has the bits of 7.0, which no case draws.
fn wrong_at_seven(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let mut seven = false;
    if let Some(x) = operand(op, |access, _| access == Access::Read) {
        bench.change(&x, |bytes| seven = bytes.starts_with(&7f32.to_le_bytes()))?;
    }
    if seven { backwards(bench, op) } else { bench.run(op) }
}

/// One call of three has another lowest bit.
fn unsteady(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    bench.run(op)?;
    let odd = CALLS.fetch_add(1, Ordering::Relaxed) % 3 == 1;
    match operand(op, |access, _| access == Access::Write) {
        Some(out) if odd => bench.change(&out, |bytes| bytes[0] ^= 1),
        _ => Ok(()),
    }
}

/// The file of the failure of a case.
fn saved(dir: &Path, fault: Fault, case: &str) -> PathBuf {
    let (case, save_failures) = (Some(case.to_owned()), Some(dir.to_owned()));
    let selection = Selection { case, save_failures, ..Selection::default() };
    let report = run(&faulty(fault), &selection, &mut |_| true).unwrap();
    PathBuf::from(report.failures().next().expect("the fault shows").saved.clone().unwrap())
}

type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Writes the file again after an edit of its tensors.
fn edited(file: &Path, edit: impl FnOnce(&mut Tensors)) -> PathBuf {
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors =
        all.iter().map(|(name, t)| (name.into(), (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect();
    edit(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let other = file.with_extension("edited");
    std::fs::write(&other, safetensors::serialize(views, header.metadata().clone()).unwrap()).unwrap();
    other
}

fn on(fault: Fault, file: &Path) -> Replayed {
    replay(&faulty(fault), file, &Selection::default()).unwrap()
}

fn right(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)
}

#[test]
fn what_runs_are_the_bytes_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved(dir.path(), backwards, CASE);
    let again = on(backwards, &file);
    assert!(again.same_inputs && again.other_inputs.is_empty() && !again.report.passed);
    assert!(on(right, &file).report.passed && on(wrong_at_seven, &file).report.passed);

    // Inputs that no case makes: zero hides one fault, seven shows another.
    let zero = edited(&file, |tensors| tensors.get_mut("before/x").unwrap().2.fill(0));
    let again = on(backwards, &zero);
    assert!(again.report.passed && !again.same_inputs, "{}", again.report.matrix());
    assert_eq!(again.other_inputs, ["x"]);
    let seven =
        edited(&file, |tensors| tensors.get_mut("before/x").unwrap().2[..4].copy_from_slice(&7f32.to_le_bytes()));
    assert!(!on(wrong_at_seven, &seven).report.passed && on(right, &seven).report.passed);

    // NaN is an input like any other where the case has not said what comes of it.
    let nan =
        edited(&file, |tensors| tensors.get_mut("before/x").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(on(right, &nan).report.passed, "{}", on(right, &nan).report.matrix());
}

#[test]
fn relations_are_saved_and_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let case = CASE.replacen("rope/", "rope/r5-repeat/", 1);
    let file = saved(dir.path(), unsteady, &case);
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.tensor("before/x").is_ok() && tensors.tensor("after/out").is_err());
    let again = on(unsteady, &file);
    assert!(again.same_inputs && again.case == case);
    assert_eq!(again.report.failures().next().expect("it fails again").rule, Rule::R5);
    assert!(on(right, &file).report.passed);
    let seven =
        edited(&file, |tensors| tensors.get_mut("before/x").unwrap().2[..4].copy_from_slice(&7f32.to_le_bytes()));
    assert!(!on(unsteady, &seven).report.passed && on(right, &seven).other_inputs == ["x"]);
}

#[test]
fn tensors_of_another_operation_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved(dir.path(), backwards, CASE);
    let said = |edit: fn(&mut Tensors)| {
        let error = replay(&*anychip_cpu::open(), &edited(&file, edit), &Selection::default()).unwrap_err();
        assert!(matches!(error, SuiteError::Saved { .. }));
        error.to_string()
    };
    let shape = said(|tensors| tensors.get_mut("before/x").unwrap().1 = vec![3, 5, 48]);
    assert!(shape.contains("before/x: want F32 [5, 3, 48], got F32 [3, 5, 48], in rope/near"), "{shape}");
    let dtype = said(|tensors| tensors.get_mut("before/x").unwrap().0 = Dtype::I32);
    assert!(dtype.contains("want F32 [5, 3, 48], got I32 [5, 3, 48]"), "{dtype}");
    let missing = said(|tensors| drop(tensors.remove("before/angles")));
    assert!(missing.contains("before/angles is not in the file") && missing.contains("got nothing"), "{missing}");
    let stray = said(|tensors| drop(tensors.insert("before/weights".into(), (Dtype::U8, vec![1], vec![0]))));
    assert!(stray.contains("before/weights: rope has no such operand"), "{stray}");
}

#[test]
fn spoilt_files_are_errors_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(saved(dir.path(), backwards, CASE)).unwrap();
    let (header, _) = SafeTensors::read_metadata(&bytes).unwrap();
    let (cpu, file) = (anychip_cpu::open(), dir.path().join("spoilt"));
    let ends = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        replay(&*cpu, &file, &Selection::default())
    };
    for length in (0..bytes.len()).step_by(bytes.len() / 100).chain(0..24) {
        assert!(matches!(ends(&bytes[..length]), Err(SuiteError::Saved { .. })), "{length} bytes");
    }
    // Lengths that no file has, and a header that says anything.
    for length in [0, 1, u64::MAX, u64::MAX / 2, 1 << 40, bytes.len() as u64] {
        let other = [&length.to_le_bytes(), &bytes[8..]].concat();
        assert!(matches!(ends(&other), Err(SuiteError::Saved { .. })), "{length}");
    }
    for at in (0..header + 8).step_by(7) {
        for bit in [0, 3, 6] {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            // Some letters matter to nobody; a changed name of the case is unknown or another case's.
            if let Err(error) = ends(&other) {
                let known = matches!(error, SuiteError::Saved { .. } | SuiteError::UnknownCase { .. });
                assert!(known, "byte {at}, bit {bit}: {error}");
            }
        }
    }
}

/// Indices beyond every table and list are inputs too.
#[test]
fn indices_of_any_value_run() {
    let dir = tempfile::tempdir().unwrap();
    let unwritten: Fault = |_, _| Ok(());
    for op in ["embed", "kv_store", "sparse_attention", "expert_ffn"] {
        let selection = Selection { ops: vec![op.into()], ..Selection::default() };
        let case = selection.cases().unwrap()[0].name.clone();
        let file = saved(dir.path(), unwritten, &case);
        for value in [i32::MIN, -1, i32::MAX] {
            let wild = edited(&file, |tensors| {
                let indices = tensors
                    .iter_mut()
                    .filter(|(name, (dtype, ..))| name.starts_with("before/") && *dtype == Dtype::I32);
                for (_, (_, _, bytes)) in indices {
                    bytes.chunks_exact_mut(4).for_each(|element| element.copy_from_slice(&value.to_le_bytes()));
                }
            });
            let found = replay(&*anychip_cpu::open(), &wild, &Selection::default()).unwrap();
            let panicked = found.report.failures().find(|failure| failure.message.contains("panicked"));
            assert!(panicked.is_none(), "{op}, {value}: {}", panicked.unwrap());
        }
    }
}
