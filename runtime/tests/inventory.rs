//! The tensor list against published totals, golden checkpoints and a golden float model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_core::DType;
use anychip_runtime::config::{Config, ExpertDtype};
use anychip_runtime::inventory::{TensorSpec, inventory};
use anychip_runtime::plan::Plan;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name)
}

/// Name to (type, shape) of every tensor in the `model*.safetensors` of `dir`.
fn headers(dir: &Path) -> BTreeMap<String, (String, Vec<u64>)> {
    let mut tensors = BTreeMap::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !(name.starts_with("model") && name.ends_with(".safetensors")) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        for (tensor, about) in header.as_object().unwrap().iter().filter(|(key, _)| *key != "__metadata__") {
            let shape = about["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect();
            tensors.insert(tensor.clone(), (about["dtype"].as_str().unwrap().to_owned(), shape));
        }
    }
    tensors
}

fn totals(config: &Config) -> (u64, u64, u64) {
    let (mut tensors, mut elements, mut bytes) = (0, 0, 0);
    for tensor in inventory(config) {
        tensors += 1;
        elements += tensor.file_elements();
        bytes += tensor.file_bytes();
    }
    (tensors, elements, bytes)
}

#[test]
fn released_totals() {
    // Pro: as the published listing of its safetensors index says, 805.32 GiB.
    assert_eq!(totals(&Config::v4_pro()), (145116, 861608274846, 864704792696));
    assert_eq!(format!("{:.2}", 864704792696.0 / (1u64 << 30) as f64), "805.32");
    assert_eq!(totals(&Config::v4_flash()), (69187, 158069433298, 159609485896));
    let names: BTreeSet<String> = inventory(&Config::v4_pro()).map(|tensor| tensor.name).collect();
    assert_eq!(names.len(), 145116, "names are unique");
    assert!(!names.iter().any(|name| name.contains('*')));
}

#[test]
fn golden_checkpoints_tensor_by_tensor() {
    for (dir, count) in [("Q", 421), ("tiny", 340)] {
        let config = Config::open(&golden(dir)).unwrap();
        let listed: BTreeMap<_, _> = inventory(&config)
            .map(|tensor| (tensor.name.clone(), (tensor.file_dtype().to_string(), tensor.file_shape())))
            .collect();
        assert_eq!(listed.len(), count);
        assert_eq!(listed, headers(&golden(dir)), "{dir}");
    }
}

#[test]
fn plain_checkpoints_hold_the_same_numbers() {
    // A and B carry transformers names and stacked experts, so only the count of numbers is comparable.
    for dir in ["A", "B"] {
        let config = Config::open(&golden(dir)).unwrap();
        let learned = |name: &str| !name.ends_with("tid2eid");
        let own: u64 = inventory(&config).filter(|tensor| learned(&tensor.name)).map(|tensor| tensor.elements()).sum();
        let file: u64 = headers(&golden(dir))
            .iter()
            .filter(|(name, _)| learned(name))
            .map(|(_, (_, s))| s.iter().product::<u64>())
            .sum();
        assert_eq!(own, file, "{dir}");
        assert_eq!(Plan::new(&config, 1).unwrap().figures.params_total, file, "{dir}");
        assert!(inventory(&config).all(|tensor| matches!(tensor.dtype, DType::F32 | DType::I64)));
    }
}

#[test]
fn logical_and_stored_form() {
    let of = |config: &Config, name: &str| inventory(config).find(|tensor| tensor.name == name).unwrap();
    let pro = Config::v4_pro();
    let w2 = of(&pro, "layers.60.ffn.experts.383.w2.weight");
    assert_eq!((w2.dtype, w2.shape.as_slice()), (DType::E2M1, [7168, 3072].as_slice()));
    assert_eq!((w2.file_dtype().to_string().as_str(), w2.file_shape()), ("I8", vec![7168, 1536]));
    assert_eq!((w2.elements(), w2.file_bytes()), (7168 * 3072, 7168 * 1536));
    assert_eq!(of(&pro, "layers.60.ffn.experts.383.w2.scale").shape, [7168, 96]);
    assert_eq!(of(&pro, "layers.2.attn.indexer.compressor.ape").shape, [4, 256]);
    assert_eq!(of(&pro, "layers.0.attn.compressor.ape").shape, [128, 512]);
    assert_eq!(of(&pro, "layers.0.attn.wo_a.weight").shape, [16384, 4096]);
    assert_eq!(of(&pro, "mtp.0.e_proj.scale").shape, [56, 56]);
    assert_eq!(of(&pro, "layers.2.ffn.gate.tid2eid").shape, [129280, 6]);
    assert!(!inventory(&pro).any(|tensor| tensor.name == "layers.2.ffn.gate.bias"));

    // FP8 experts: block scales as every other linear, which do not round down.
    let mut fp8 = Config::tiny();
    fp8.moe_intermediate_size = 200;
    fp8.quantization.as_mut().unwrap().expert_dtype = ExpertDtype::Fp8;
    assert_eq!(of(&fp8, "layers.0.ffn.experts.7.w1.weight").dtype, DType::E4M3);
    assert_eq!(of(&fp8, "layers.0.ffn.experts.7.w1.scale").shape, [2, 1]);
    let odd = TensorSpec { name: String::new(), dtype: DType::E2M1, shape: vec![3, 5] };
    assert_eq!((odd.file_shape(), odd.file_bytes()), (vec![3, 3], 9));
    let huge = TensorSpec { name: String::new(), dtype: DType::F32, shape: vec![u64::MAX, 2] };
    assert_eq!(huge.file_bytes(), u64::MAX);
}
