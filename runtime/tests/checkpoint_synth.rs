//! The golden checkpoints of both layouts through the reader, and random checkpoints written and read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anychip_core::DType;
use anychip_runtime::checkpoint::{Checkpoint, CheckpointError, FileDType, Layout, Shard, Weight};
use anychip_runtime::config::{Compression, Config, ExpertDtype, LayerKind};
use anychip_runtime::inventory::inventory;
use anychip_runtime::synth::{SynthError, synth};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name)
}

#[test]
fn every_golden_checkpoint_fits_its_configuration_exactly() {
    for (name, layout) in
        [("A", Layout::Transformers), ("B", Layout::Transformers), ("Q", Layout::Official), ("tiny", Layout::Official)]
    {
        let (config, ckpt) = (Config::open(&golden(name)).unwrap(), Checkpoint::open(&golden(name)).unwrap());
        assert_eq!(ckpt.layout(), layout, "{name}");
        let checked = ckpt.check(&config, inventory(&config)).unwrap();
        assert!(checked.extra.is_empty(), "{name}: {:?}", checked.extra);
        assert_eq!(checked.bytes, ckpt.bytes_total(), "{name}");
        assert_eq!(checked.tensors, inventory(&config).count(), "{name}");
        // A part of the inventory leaves the rest as extra.
        let embedding = inventory(&config).filter(|spec| spec.name == "embed.weight");
        assert_eq!(ckpt.check(&config, embedding).unwrap().extra.len(), ckpt.len() - 1);
    }
}

#[test]
fn stacked_experts_are_found_by_their_official_names() {
    let ckpt = Checkpoint::open(&golden("A")).unwrap();
    let file = Shard::open(&golden("A/model.safetensors")).unwrap();
    let [gate_up, down] = ["gate_up_proj", "down_proj"]
        .map(|stack| file.tensor(&format!("model.layers.3.mlp.experts.{stack}")).unwrap().to_f32().unwrap());
    // [experts, 2 I, d] and [experts, d, I] with I = 32, d = 64.
    for k in 0..8 {
        let matrix =
            |w: &str, shape| ckpt.float(&format!("layers.3.ffn.experts.{k}.{w}.weight"), shape).unwrap().to_f32();
        assert_eq!(matrix("w1", &[32, 64]).unwrap(), gate_up[k * 4096..k * 4096 + 2048]);
        assert_eq!(matrix("w3", &[32, 64]).unwrap(), gate_up[k * 4096 + 2048..(k + 1) * 4096]);
        assert_eq!(matrix("w2", &[64, 32]).unwrap(), down[k * 2048..(k + 1) * 2048]);
    }
    let e = ckpt.tensor("layers.3.ffn.experts.8.w1.weight").unwrap_err();
    assert!(matches!(e, CheckpointError::NoSuchExpert { expert: 8, experts: 8, .. }), "{e}");
    assert!(matches!(ckpt.tensor("layers.0.ffn.gate.bias"), Err(CheckpointError::Missing { .. })));
    assert_eq!(ckpt.tensor("layers.0.ffn.gate.tid2eid").unwrap().dtype, FileDType::I32);
}

#[test]
fn golden_values_of_the_official_layout() {
    let ckpt = Checkpoint::open(&golden("Q")).unwrap();
    assert_eq!((ckpt.shards(), ckpt.tensor("layers.0.ffn.gate.tid2eid").unwrap().dtype), (2, FileDType::I64));
    let table = ckpt.ids_i32("layers.0.ffn.gate.tid2eid", &[160, 3]).unwrap();
    assert!(table.iter().all(|id| (0..8).contains(id)));
    let Weight::Fp4 { codes, scale } = ckpt.weight("layers.2.ffn.experts.5.w2.weight", [64, 32], [128, 128]).unwrap()
    else {
        panic!("the experts of Q are FP4");
    };
    assert_eq!((codes.shape, scale.shape), (&[64, 16][..], &[64, 1][..]));
    let Weight::Fp8 { scale, .. } = ckpt.weight("layers.1.attn.indexer.wq_b.weight", [384, 24], [128, 128]).unwrap()
    else {
        panic!("the linears of Q are FP8");
    };
    assert_eq!(scale.shape, [3, 1]);
    // The wrong configuration says so for every tensor at once.
    let other = Config::open(&golden("tiny")).unwrap();
    let e = ckpt.check(&other, inventory(&other)).unwrap_err();
    assert!(matches!(&e, CheckpointError::Several { count, errors, .. } if *count > 50 && errors.len() == 6), "{e}");
}

/// Writes a random checkpoint, checks it against its own config.json and returns its files, sorted by name.
fn written(config: &Config, seed: u64) -> Vec<(String, Vec<u8>)> {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("new/model");
    let last = Cell::new((0, 1));
    let summary = synth(config, seed, &dir, &AtomicBool::new(false), &|done, total| {
        assert!(done >= last.get().0 && done <= total);
        last.set((done, total));
    })
    .unwrap();
    assert_eq!(last.get(), (summary.bytes, summary.bytes));
    assert_eq!(Config::open(&dir).unwrap(), *config);
    let ckpt = Checkpoint::open(&dir).unwrap();
    let checked = ckpt.check(config, inventory(config)).unwrap();
    assert!(checked.extra.is_empty());
    assert_eq!((checked.tensors, checked.bytes), (summary.tensors, summary.bytes));
    assert_eq!((ckpt.len(), ckpt.bytes_total(), ckpt.shards()), (summary.tensors, summary.bytes, summary.shards));
    for spec in inventory(config) {
        let tensor = ckpt.tensor(&spec.name).unwrap();
        assert_eq!(tensor.bytes.as_ptr() as usize % tensor.dtype.bytes(), 0, "{} is aligned", spec.name);
        if let Some(values) = tensor.to_f32() {
            assert!(values.iter().all(|v| v.is_finite()), "{}", spec.name);
        }
        match spec.dtype {
            DType::E4M3 => assert!(tensor.bytes.iter().all(|c| c & 0x7F != 0x7F), "{}", spec.name),
            DType::UE8M0 => assert!(tensor.bytes.iter().all(|e| (100..140).contains(e)), "{}", spec.name),
            _ => {}
        }
    }
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|f| f.unwrap())
        .map(|f| (f.file_name().into_string().unwrap(), fs::read(f.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_random_checkpoint_reads_back_and_depends_on_its_seed_alone() {
    let config = Config::tiny();
    let files = written(&config, 1);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]);
    assert!(written(&config, 1) == files);
    assert!(written(&config, 2)[1] != files[1]);
}

#[test]
fn plain_fp8_and_mtp_configurations_can_be_written_too() {
    let mut config = Config::tiny();
    config.quantization = None;
    config.dtype = DType::F32;
    written(&config, 3);
    let mut config = Config::tiny();
    config.mtp = Some(LayerKind { compression: Compression::None, hash_routed: false });
    config.eos = vec![1, 2];
    config.yarn = None;
    if let Some(quantization) = &mut config.quantization {
        quantization.expert_dtype = ExpertDtype::Fp8;
        quantization.weight_block = [64, 32];
    }
    written(&config, 3);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is() {
    let home = tempfile::tempdir().unwrap();
    let run = |config: &Config, dir: &Path| synth(config, 0, dir, &AtomicBool::new(false), &|_, _| {}).unwrap_err();
    let mut config = Config::tiny();
    fs::write(home.path().join("file"), "x").unwrap();
    assert!(matches!(run(&config, home.path()), SynthError::NotEmpty { found, .. } if found == "file"));
    assert!(matches!(run(&config, &home.path().join("file")), SynthError::NotAFolder { .. }));
    assert!(matches!(run(&config, &home.path().join("file/below")), SynthError::Io { .. }));
    config.layers[3].hash_routed = true;
    assert!(matches!(run(&config, &home.path().join("new")), SynthError::NotOfficial { .. }));
    config.heads = 0;
    assert!(matches!(run(&config, &home.path().join("new")), SynthError::Config(_)));
    assert!(!home.path().join("new").exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_cancelled_run_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    for (dir, existed) in [(home.path().join("new"), false), (home.path().join("empty"), true)] {
        if existed {
            fs::create_dir(&dir).unwrap();
        }
        let cancelled = AtomicBool::new(false);
        let e = synth(&Config::tiny(), 0, &dir, &cancelled, &|done, total| {
            if done > total / 2 {
                // Half-written files must not open, by whatever name they have.
                assert!(Checkpoint::open(&dir).is_err());
                cancelled.store(true, Ordering::Relaxed);
            }
        });
        assert!(matches!(e, Err(SynthError::Cancelled { .. })));
        assert_eq!(dir.exists(), existed);
        assert!(!existed || fs::read_dir(&dir).unwrap().next().is_none());
    }
}
