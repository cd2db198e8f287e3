//! What the catalogue promises: enough cases of each operation, names of their own, the same bytes every time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_conformance::{Profile, Selection, cases};
use anychip_core::forward::{Hooks, Recordings, Wrapped};
use anychip_core::ops::NAMES;
use anychip_core::{Device, DeviceInfo, Op, Support};
use std::collections::BTreeSet;

#[test]
fn every_operation_has_cases() {
    let quick = cases(Profile::Quick, 0);
    for op in NAMES {
        let of_op = quick.iter().filter(|case| case.op_name == *op).count();
        assert!(of_op >= 3, "{op} has {of_op} cases");
    }
    assert!(quick.iter().all(|case| case.op_name == "device" || NAMES.contains(&case.op_name)));
    assert!(quick.iter().filter(|case| case.op_name == "device").count() >= 20);
    let full = cases(Profile::Full, 0);
    assert!(full.len() > quick.len() && quick.iter().all(|q| full.iter().any(|f| f.name == q.name)));
}

#[test]
fn names_are_unique_and_plain() {
    let full = cases(Profile::Full, 12);
    let names: BTreeSet<&str> = full.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), full.len());
    for case in &full {
        assert!(
            case.name.starts_with(&format!("{}/", case.op_name)) && case.name.ends_with("/seed12"),
            "{}",
            case.name
        );
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c);
        assert!(case.name.chars().all(plain), "{} is no plain name for a file or a shell", case.name);
    }
}

#[test]
fn the_same_name_gives_the_same_bytes_on_every_device() {
    let (cpu, reference) = (anychip_cpu::open(), anychip_reference::open(4 << 30));
    for case in cases(Profile::Quick, 5) {
        let first = case.operand_bytes(&*cpu).unwrap();
        let again = Selection { case: Some(case.name.clone()), ..Selection::default() }.cases().unwrap();
        assert!(first == again[0].operand_bytes(&*reference).unwrap(), "{}", case.name);
    }
}

#[test]
fn another_seed_gives_other_bytes() {
    let cpu = anychip_cpu::open();
    // Some are made of edges alone, which no seed moves.
    let fixed = [
        "edges",
        "every_code",
        "every_scale",
        "expert_gemm/nobody",
        "embed/nothing",
        "/nothing/",
        "unit_rows",
        "zero",
        "nan",
        "no_rows",
        "no_places",
        "t0-",
    ];
    for (a, b) in cases(Profile::Quick, 1).iter().zip(cases(Profile::Quick, 2)) {
        let same = a.operand_bytes(&*cpu).unwrap() == b.operand_bytes(&*cpu).unwrap();
        // A relation has the operands of the case that it is of.
        let related = ["/r4-", "/r5-"].iter().any(|part| a.name.contains(part));
        let by_seed = !related && a.op_name != "device" && !fixed.iter().any(|part| a.name.contains(part));
        assert!(!(same && by_seed && !a.name.contains("no_scores")), "{} does not depend on the seed", a.name);
    }
}

#[test]
fn operands_begin_where_the_device_takes_them() {
    struct Picky;
    impl Hooks for Picky {
        fn recordings(&self, _: &dyn Device) -> Recordings {
            Recordings::Whole
        }
        fn info(&self, inner: &dyn Device) -> DeviceInfo {
            let mut info = inner.info();
            info.alignment = 4096;
            info
        }
        fn supports(&self, inner: &dyn Device, op: &Op) -> Support {
            let aligned = op.operands().iter().all(|(_, _, t)| t.offset() % 4096 == 0);
            assert!(aligned, "{} has an operand elsewhere", op.name());
            inner.supports(op)
        }
    }
    let device = Wrapped::new(anychip_cpu::open(), Picky);
    let ops = vec!["kv_store".into(), "linear".into()];
    let selection = Selection { ops, ..Selection::default() };
    let report = anychip_conformance::run(&device, &selection, &mut |_| true).unwrap();
    assert!(report.passed, "{}", report.matrix());
}
