//! The plan against the published ratios and against sums worked out by an independent script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_runtime::config::Config;
use anychip_runtime::plan::{Plan, PlanError};

const MILLION: u64 = 1 << 20;

fn pro(context: u64) -> Plan {
    Plan::new(&Config::v4_pro(), context).unwrap()
}

fn flash(context: u64) -> Plan {
    Plan::new(&Config::v4_flash(), context).unwrap()
}

/// `count` in units of 10^9 with one digit, as published.
fn giga(count: u64) -> String {
    format!("{:.1}", count as f64 / 1e9)
}

fn percent(ratio: f64) -> String {
    format!("{:.1}", 100.0 * ratio)
}

#[test]
fn published_ratios_at_a_million_tokens() {
    // DeepSeek V4 technical report: 27 % and 10 % of V3.2's FLOPs per token, 10 % and 7 % of its cache.
    let (pro, flash) = (pro(MILLION), flash(MILLION));
    assert_eq!(((100.0 * pro.flops_ratio).round(), (100.0 * flash.flops_ratio).round()), (27.0, 10.0));
    assert_eq!(((100.0 * pro.kv_ratio).round(), (100.0 * flash.kv_ratio).round()), (10.0, 7.0));
    assert_eq!((percent(pro.flops_ratio).as_str(), percent(flash.flops_ratio).as_str()), ("26.8", "10.1"));
    assert_eq!((percent(pro.flops_ratio_raw).as_str(), percent(flash.flops_ratio_raw).as_str()), ("26.2", "12.1"));
    assert_eq!(format!("{:.2} {:.2}", 100.0 * pro.kv_ratio, 100.0 * flash.kv_ratio), "10.48 7.32");
}

#[test]
fn parts_at_a_million_tokens() {
    let parts = |figures: &anychip_runtime::plan::Figures| {
        let flops = figures.flops;
        [flops.linears(), flops.core_attention, flops.indexer, figures.flops_per_token].map(giga)
    };
    let (pro, flash) = (pro(MILLION), flash(MILLION));
    assert_eq!(parts(&pro.v3_2), ["75.0", "34.8", "1048.0", "1157.7"]);
    assert_eq!(giga(pro.v3_2.flops_per_token_fp8_equivalent), "1192.5");
    assert_eq!(parts(&pro.figures), ["97.7", "76.7", "128.8", "303.2"]);
    assert_eq!(parts(&flash.figures), ["26.5", "23.6", "90.2", "140.3"]);
    // Per layer and token: 302.0 and 2181 MFLOP of CSA and HCA core, 4295 MFLOP of indexer scores (Pro).
    assert_eq!(pro.figures.flops.core_attention, 30 * 4 * 128 * 512 * 1152 + 31 * 4 * 128 * 512 * 8320);
    assert_eq!(pro.figures.flops.indexer, 30 * 2 * 64 * 128 * 262144);
    let [p, f, v] = [&pro.figures, &flash.figures, &pro.v3_2];
    assert_eq!([p, f, v].map(|x| x.kv_bytes_per_token.round()), [5036.0, 3517.0, 48068.0]);
    assert_eq!(p.kv_bytes_at_context, 30 * 652 * 262144 + 31 * 584 * 8192 + 61 * 584 * 128);
    let gib = |bytes: u64| format!("{:.2}", bytes as f64 / (1u64 << 30) as f64);
    assert_eq!((gib(p.kv_bytes_at_context).as_str(), gib(f.kv_bytes_at_context).as_str()), ("4.92", "3.43"));
    let kib = 1024;
    assert_eq!(pro.compressor_state_bytes, 30 * (64 + 16) * kib + 31 * 512 * kib);
    assert_eq!(flash.compressor_state_bytes, 21 * (64 + 16) * kib + 20 * 512 * kib);
}

#[test]
fn parameters_as_published() {
    let (pro, flash) = (pro(1), flash(1));
    // The published 1.6 T and 284 G, with 49 G and 13 G active.
    assert_eq!([pro.figures.params_total, pro.params_mtp].map(giga), ["1573.0", "25.8"]);
    assert_eq!([flash.figures.params_total, flash.params_mtp].map(giga), ["284.3", "6.6"]);
    // The layers' linears and the head, worked out independently, and the mix of the head's streams (4 x 4d).
    assert_eq!(pro.figures.params_active, 48849027072 + 16 * 7168);
    assert_eq!(flash.figures.params_active, 13268156416 + 16 * 4096);
    let flops = pro.figures.flops;
    let formats = [flops.linear_fp8, flops.linear_fp4, flops.linear_bf16, flops.linear_f32];
    assert_eq!(formats.map(|flops| flops / 2), [22700621824, 24178065408, 1886388224, 83951616 + 16 * 7168]);
    assert_eq!(giga(pro.figures.params_total + pro.params_mtp), "1598.8");
    // DeepSeek-V3.2 without its MTP layer: 671 G of V3 and 0.85 G of indexers; 37 G active.
    assert_eq!([pro.v3_2.params_total, pro.v3_2.params_active].map(giga), ["671.9", "37.5"]);
    assert_eq!((pro.checkpoint_tensors, pro.checkpoint_bytes), (145116, 864704792696));
    assert_eq!((flash.checkpoint_tensors, flash.checkpoint_bytes), (69187, 159609485896));
}

#[test]
fn other_contexts() {
    for (context, pro_b, flash_b, pro_kv, flash_kv) in [
        (4096, "82.7", "22.3", "12.8", "8.9"),
        (65536, "64.0", "18.2", "10.6", "7.4"),
        (131072, "53.3", "15.9", "10.5", "7.4"),
    ] {
        let (pro, flash) = (pro(context), flash(context));
        assert_eq!([pro.flops_ratio, flash.flops_ratio].map(percent), [pro_b, flash_b], "{context}");
        assert_eq!([pro.kv_ratio, flash.kv_ratio].map(percent), [pro_kv, flash_kv], "{context}");
    }
}

#[test]
fn entries_exist_once_their_window_is_full() {
    // 127 and 128 tokens: 31 and 32 CSA entries, 0 and 1 HCA entries; the window holds every token of either.
    let core = |csa: u64, hca: u64| 4 * 128 * 512 * (30 * csa + 31 * hca);
    let kv = |csa: u64, hca: u64| 61 * 584 * 128 + 30 * 652 * csa + 31 * 584 * hca;
    for (n, csa, hca) in [(3, 0, 0), (4, 1, 0), (127, 31, 0), (128, 32, 1)] {
        let figures = pro(n).figures;
        assert_eq!(figures.flops.core_attention, core(n + csa, n + hca), "{n}");
        assert_eq!(figures.kv_bytes_at_context, kv(csa, hca), "{n}");
        assert_eq!(figures.flops.indexer, 30 * 2 * 64 * 128 * csa, "{n}");
    }
}

#[test]
fn no_context_wraps_around() {
    let plan = |context| Plan::new(&Config::v4_pro(), context);
    assert_eq!(plan(0), Err(PlanError::NoContext));
    assert!(plan(1 << 44).is_ok());
    for context in [1 << 45, 1 << 63, u64::MAX] {
        let error = plan(context).unwrap_err();
        assert!(error.to_string().contains(&format!("at a context of {context} tokens do not fit 64 bits")), "{error}");
    }
}

#[test]
fn the_document() {
    let json = serde_json::to_value(pro(MILLION)).unwrap();
    assert_eq!((json["schema"].as_str(), json["model"].as_str()), (Some("anychip.plan/1"), Some("v4-pro")));
    assert_eq!(json["context"], MILLION);
    let shared = [
        "params_total",
        "params_active",
        "flops_per_token",
        "flops_per_token_fp8_equivalent",
        "flops",
        "kv_bytes_per_token",
        "kv_bytes_at_context",
    ];
    for field in shared {
        assert!(!json[field].is_null() && !json["v3_2"][field].is_null(), "{field}");
    }
    for field in [
        "max_context",
        "params_mtp",
        "checkpoint_tensors",
        "checkpoint_bytes",
        "compressor_state_bytes",
        "flops_ratio",
        "flops_ratio_raw",
        "kv_ratio",
    ] {
        assert!(json[field].is_number(), "{field}");
    }
    let parts: u64 = json["flops"].as_object().unwrap().values().map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(json["flops_per_token"], parts);
}

#[test]
fn the_table() {
    let table = pro(MILLION).render();
    for part in [
        "v4-pro at 1,048,576 tokens of context\n",
        "1573.0 G total, 48.8 G active per token, and 25.8 G in the MTP layer",
        "145,116 tensors, 805.32 GiB",
        "17.84 MiB per sequence",
        "26.8 %",
        "303.2 GFLOP",
        "5036 B",
        "4.92 GiB",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert!(table.lines().all(|line| line.len() <= 100));
    let tiny = Plan::new(&Config::tiny(), 2 * MILLION).unwrap().render();
    assert!(tiny.starts_with("tiny at 2,097,152 tokens of context; trained for 1,048,576 tokens at most\n"), "{tiny}");
    assert!(tiny.contains("M total") && !tiny.contains("MTP"), "{tiny}");
}
