//! Every bundled checkpoint on both devices, against numbers that independent code computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_runtime::Precision;
use anychip_runtime::verify::{Expected, ExpectedServed, Form, logits_in_chunks, verify};

fn check(device: &str, model: &str, precision: Precision) {
    let mut model_on_device = common::open(device, model, precision);
    let config = model_on_device.config().clone();
    let expected = Expected::open(&common::golden(model), &config).unwrap();
    let served = ExpectedServed::open(&common::golden(model), &config).unwrap();
    for &form in Form::of(precision) {
        let start = std::time::Instant::now();
        let verdict = verify(&mut model_on_device, form, &expected, served.as_ref()).unwrap();
        println!("{:?} {}", start.elapsed(), serde_json::to_string(&verdict).unwrap());
        assert!(verdict.passed, "{model} on {device}: {verdict:#?}");
        assert!(verdict.fallback_ops.is_empty());
        if let Some(loss) = verdict.loss.filter(|_| model == "tiny") {
            let (want, off) = if precision == Precision::Exact { (2.3620, 1e-4) } else { (2.3618, 0.01) };
            assert!((loss - want).abs() <= off, "loss {loss}, expected {want}");
        }
    }
}

macro_rules! checks {
    ($($name:ident: $device:literal $model:literal $precision:ident;)*) => {
        $(#[test] fn $name() { check($device, $model, Precision::$precision); })*
    };
}

checks! {
    a_exact_on_reference: "reference" "A" Exact;
    a_exact_on_cpu: "cpu" "A" Exact;
    b_exact_on_reference: "reference" "B" Exact;
    b_exact_on_cpu: "cpu" "B" Exact;
    q_exact_on_reference: "reference" "Q" Exact;
    q_exact_on_cpu: "cpu" "Q" Exact;
    q_served_on_reference: "reference" "Q" Served;
    q_served_on_cpu: "cpu" "Q" Served;
    tiny_exact_on_reference: "reference" "tiny" Exact;
    tiny_exact_on_cpu: "cpu" "tiny" Exact;
    tiny_served_on_reference: "reference" "tiny" Served;
    tiny_served_on_cpu: "cpu" "tiny" Served;
}

#[test]
fn any_chunk_size_gives_the_same_logits() {
    let mut model = common::open("cpu", "A", Precision::Exact);
    let expected = Expected::open(&common::golden("A"), &model.config().clone()).unwrap();
    for size in [1, 3, 5, 64] {
        let got = logits_in_chunks(&mut model, &expected.tokens, &[size]).unwrap();
        let most = got.iter().zip(&expected.logits).map(|(g, w)| (g - w).abs()).fold(0.0, common::worse);
        assert!(got.len() == expected.logits.len() && most <= 1e-4, "chunks of {size}: {most}");
    }
}
