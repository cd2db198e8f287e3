//! A page with every outcome, for `html.sh`, which opens it in a browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{ExpectedFailures, Report, Selection, html, run};
use anychip_core::{Device, Op, Result, WithFallback};
use common::{Bench, bare, faulty};

/// Wrong signs in `rope`, nothing written in `hadamard`.
fn broken(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    match op.name() {
        "hadamard" => Ok(()),
        "rope" => {
            let other =
                bench.with_other(op, "x", |_, bytes| bytes.iter_mut().skip(1).step_by(2).for_each(|b| *b ^= 1))?;
            bench.run(&other)
        }
        _ => bench.run(op),
    }
}

fn judged(device: &dyn Device, name: &str, ops: &[&str], list: &str) -> Report {
    let ops = ops.iter().map(|op| op.to_string()).collect();
    let expected = ExpectedFailures::parse("list", list).unwrap();
    let mut report = run(device, &Selection { ops, expected, ..Selection::default() }, &mut |_| true).unwrap();
    report.device.name = name.into();
    report
}

fn reports() -> [Report; 4] {
    let list = "[[expected_failures]]\ncase = \"hadamard\"\nreason = \"<b>known</b> & listed\"\n";
    let ops = ["linear", "dequantize", "rope", "hadamard"];
    let half = WithFallback::new(Box::new(bare()), anychip_cpu::open());
    [
        judged(&*anychip_cpu::open(), "right", &ops, ""),
        judged(&faulty(broken), "broken", &ops, list),
        judged(&half, "half", &ops, ""),
        judged(&bare(), "bare", &ops[..3], ""),
    ]
}

/// Where it is named, the page is written: `ANYCHIP_PAGE=FILE cargo test -p anychip-conformance --test page`.
#[test]
fn a_page_has_every_outcome() {
    let reports = reports();
    let page = html(&reports);
    for outcome in ["passed", "failed", "unsupported", "fallback", "expected"] {
        assert!(page.contains(&format!("<span class=\"{outcome}\">{outcome}</span>")), "{outcome}");
    }
    for state in ["native ", "FAILED ", "fallback ", "unsupported ", "expected ", "not run<"] {
        assert!(page.contains(&format!(">{state}")), "{state}");
    }
    if let Some(file) = std::env::var_os("ANYCHIP_PAGE") {
        std::fs::write(file, page).unwrap();
    }
}
