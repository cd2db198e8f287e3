//! Checkpoint folders that are damaged, incomplete or made to harm: each is refused with its own error, and nothing
//! that a file can hold makes the reader panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use anychip_core::DType;
use anychip_runtime::checkpoint::{Checkpoint, CheckpointError, FileDType, Layout, Shard, Weight};
use anychip_runtime::config::Config;
use anychip_runtime::inventory::TensorSpec;
use proptest::prelude::*;
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const BLOCK: [usize; 2] = [128, 128];

/// A tensor to write: name, dtype, shape, bytes.
struct Stored(&'static str, &'static str, Vec<usize>, Vec<u8>);

/// `n` bytes 0, 1, 2, ...
fn ramp(n: usize) -> Vec<u8> {
    (0..n).map(|b| b as u8).collect()
}

fn shard(tensors: &[Stored]) -> Vec<u8> {
    let (mut header, mut data) = (String::new(), Vec::new());
    for Stored(name, dtype, shape, bytes) in tensors {
        let (start, end) = (data.len(), data.len() + bytes.len());
        let comma = if header.is_empty() { "" } else { "," };
        header += &format!(
            "{comma}\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        );
        data.extend_from_slice(bytes);
    }
    raw(&format!("{{{header}}}"), &data)
}

fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Two tensors of the published layout.
fn valid() -> Vec<u8> {
    shard(&[
        Stored("norm.weight", "F32", vec![2], ramp(8)),
        Stored("layers.0.attn.wkv.weight", "F8_E4M3", vec![2, 3], ramp(6)),
    ])
}

fn index(entries: &[(&str, &str)]) -> String {
    let entries: Vec<_> = entries.iter().map(|(t, f)| format!("\"{t}\":\"{f}\"")).collect();
    format!("{{\"metadata\":{{\"total_size\":14}},\"weight_map\":{{{}}}}}", entries.join(","))
}

/// A folder holding these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// The error of opening a folder with these files; every message must name a path and be one paragraph.
fn refused(files: &[(&str, &[u8])]) -> CheckpointError {
    let dir = folder(files);
    let e = Checkpoint::open(dir.path()).unwrap_err();
    assert!(e.to_string().contains(&*dir.path().to_string_lossy()), "{e}");
    e
}

macro_rules! assert_error {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {{
        let e = $error;
        assert!(matches!(&e, $pattern $(if $guard)?), "{e:?}");
    }};
}

#[test]
fn a_valid_file_and_a_valid_index_give_the_bytes_written() {
    let dir = folder(&[(SINGLE, &valid())]);
    let ckpt = Checkpoint::open(dir.path()).unwrap();
    assert_eq!((ckpt.layout(), ckpt.len(), ckpt.bytes_total(), ckpt.shards()), (Layout::Official, 2, 14, 1));
    let t = ckpt.tensor("layers.0.attn.wkv.weight").unwrap();
    assert_eq!((t.dtype, t.shape, t.bytes), (FileDType::F8E4M3, &[2, 3][..], &ramp(6)[..]));

    let (a, b) = (valid(), shard(&[Stored("head.weight", "BF16", vec![1, 1], vec![0x80, 0x3F])]));
    let idx = index(&[("norm.weight", "a"), ("head.weight", "b")]);
    let dir = folder(&[(INDEX, idx.as_bytes()), ("a", &a), ("b", &b)]);
    let ckpt = Checkpoint::open(dir.path()).unwrap();
    // What shard `a` holds beyond the index is not part of the checkpoint.
    assert_eq!(ckpt.names().collect::<Vec<_>>(), ["head.weight", "norm.weight"]);
    assert_eq!(ckpt.tensor("head.weight").unwrap().to_f32(), Some(vec![1.0]));
}

#[test]
fn folders_that_hold_no_checkpoint() {
    assert_error!(refused(&[]), CheckpointError::NoCheckpoint { .. });
    let dir = folder(&[("file", b"x")]);
    assert_error!(Checkpoint::open(&dir.path().join("file")).unwrap_err(), CheckpointError::NotAFolder { .. });
    assert_error!(Checkpoint::open(&dir.path().join("none")).unwrap_err(), CheckpointError::Io { .. });
    fs::create_dir(dir.path().join(SINGLE)).unwrap();
    assert_error!(Checkpoint::open(dir.path()).unwrap_err(), CheckpointError::NotRegular { .. });
    let other = shard(&[Stored("transformer.wte", "F32", vec![1], ramp(4))]);
    assert_error!(refused(&[(SINGLE, &other)]), CheckpointError::LayoutUnknown { tensors: 1, .. });
    assert_error!(refused(&[(SINGLE, &raw("{}", &[]))]), CheckpointError::LayoutUnknown { tensors: 0, .. });
    let mixed =
        shard(&[Stored("norm.weight", "F32", vec![1], ramp(4)), Stored("model.norm.weight", "F32", vec![1], ramp(4))]);
    assert_error!(refused(&[(SINGLE, &mixed)]), CheckpointError::LayoutMixed { .. });
}

#[test]
fn damaged_shards() {
    assert_error!(refused(&[(SINGLE, b"")]), CheckpointError::Empty { .. });
    assert_error!(refused(&[(SINGLE, b"1234567")]), CheckpointError::HeaderTooSmall { got: 7, .. });
    let mut huge = valid();
    huge[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert_error!(refused(&[(SINGLE, &huge)]), CheckpointError::HeaderTooLarge { got, .. } if *got == 1 << 60);
    let whole = valid();
    let data_start = whole.len() - 14;
    // Truncated anywhere: in the length, in the header, in the data.
    for cut in 1..whole.len() {
        let e = refused(&[(SINGLE, &whole[..cut])]);
        match cut {
            ..8 => assert_error!(e, CheckpointError::HeaderTooSmall { .. }),
            _ if cut < data_start => assert_error!(e, CheckpointError::HeaderTruncated { .. }),
            _ => assert_error!(e, CheckpointError::OffsetsOutside { .. }),
        }
    }
    let longer = [&whole[..], &[0]].concat();
    assert_error!(refused(&[(SINGLE, &longer)]), CheckpointError::OffsetsGap { start: 14, end: 15, .. });
    let twice =
        shard(&[Stored("norm.weight", "F32", vec![1], ramp(4)), Stored("norm.weight", "F32", vec![1], ramp(4))]);
    assert_error!(refused(&[(SINGLE, &twice)]), CheckpointError::HeaderDuplicate { tensor, .. }
        if tensor == "norm.weight");
    let wrong = shard(&[Stored("norm.weight", "F32", vec![3], ramp(8))]);
    assert_error!(refused(&[(SINGLE, &wrong)]), CheckpointError::SizeMismatch { needs: 96, got: 8, .. });
    let part = |a, b| format!("{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{a},{b}]}}", b - a);
    let overlap = raw(&format!("{{\"norm.weight\":{},\"head.weight\":{}}}", part(0, 6), part(4, 8)), &ramp(8));
    assert_error!(refused(&[(SINGLE, &overlap)]), CheckpointError::OffsetsOverlap { tensor, other, .. }
        if tensor == "head.weight" && other == "norm.weight");
    assert_error!(refused(&[(SINGLE, &raw("{\"norm.weight\":3}", &[]))]), CheckpointError::HeaderSyntax { reason, .. }
        if reason.contains("norm.weight"));
}

#[test]
fn hostile_indexes() {
    let a = valid();
    let with = |text: &str| refused(&[(INDEX, text.as_bytes()), ("a", &a)]);
    assert_error!(with("{"), CheckpointError::IndexSyntax { .. });
    assert_error!(with(&"[".repeat(100_000)), CheckpointError::IndexSyntax { .. });
    assert_error!(with(&index(&[])), CheckpointError::IndexEmpty { .. });
    let twice = index(&[("norm.weight", "a"), ("norm.weight", "a")]);
    assert_error!(with(&twice), CheckpointError::IndexDuplicate { .. });
    assert_error!(with(&index(&[("norm.weight", "b")])), CheckpointError::ShardMissing { shard, .. } if shard == "b");
    let other = with(&index(&[("embed.weight", "a")]));
    assert_error!(other, CheckpointError::NotInShard { tensor, .. } if tensor == "embed.weight");
    for outside in ["/etc/passwd", "..", "../x", "a/../../x", "./a", ""] {
        let e = with(&index(&[("norm.weight", outside)]));
        assert_error!(e, CheckpointError::ShardOutside { shard, .. } if shard == outside);
    }
    // A damaged shard is found through the index as well.
    let idx = index(&[("norm.weight", "a")]);
    assert_error!(refused(&[(INDEX, idx.as_bytes()), ("a", b"")]), CheckpointError::Empty { .. });
}

#[cfg(unix)]
#[test]
fn links_may_not_leave_the_folder() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("real", &valid())]);
    let idx = index(&[("norm.weight", "a")]);
    let dir = folder(&[(INDEX, idx.as_bytes())]);
    symlink(outside.path().join("real"), dir.path().join("a")).unwrap();
    let e = Checkpoint::open(dir.path()).unwrap_err();
    assert_error!(e, CheckpointError::ShardOutside { rule, .. } if rule.contains("link"));
    // Through a linked folder inside, too.
    symlink(outside.path(), dir.path().join("sub")).unwrap();
    fs::write(dir.path().join(INDEX), index(&[("norm.weight", "sub/real")])).unwrap();
    assert_error!(Checkpoint::open(dir.path()).unwrap_err(), CheckpointError::ShardOutside { .. });
    // The single file as well, and a link to nothing is a missing file.
    let dir = tempfile::tempdir().unwrap();
    symlink(outside.path().join("real"), dir.path().join(SINGLE)).unwrap();
    assert_error!(Checkpoint::open(dir.path()).unwrap_err(), CheckpointError::ShardOutside { tensor: None, .. });
    let dir = folder(&[(INDEX, idx.as_bytes())]);
    symlink(dir.path().join("gone"), dir.path().join("a")).unwrap();
    assert_error!(Checkpoint::open(dir.path()).unwrap_err(), CheckpointError::ShardMissing { .. });
}

#[cfg(unix)]
#[test]
fn links_inside_the_folder_and_the_hub_cache_are_followed() {
    use std::os::unix::fs::symlink;
    let dir = folder(&[(INDEX, index(&[("norm.weight", "a")]).as_bytes()), ("real", &valid())]);
    symlink("real", dir.path().join("a")).unwrap();
    assert!(Checkpoint::open(dir.path()).is_ok());

    let hub = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (hub.path().join("blobs"), hub.path().join("snapshots/0123"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(blobs.join("f00d"), valid()).unwrap();
    symlink("../../blobs/f00d", snapshot.join(SINGLE)).unwrap();
    assert!(Checkpoint::open(&snapshot).is_ok());
    // Only the blobs: another snapshot's folder is outside.
    fs::create_dir_all(hub.path().join("snapshots/4567")).unwrap();
    fs::write(hub.path().join("snapshots/4567/f"), valid()).unwrap();
    fs::remove_file(snapshot.join(SINGLE)).unwrap();
    symlink("../4567/f", snapshot.join(SINGLE)).unwrap();
    assert_error!(Checkpoint::open(&snapshot).unwrap_err(), CheckpointError::ShardOutside { .. });
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_not_opened() {
    let e = Shard::open(Path::new("/dev/zero")).unwrap_err();
    assert_error!(e, CheckpointError::NotRegular { .. });
}

#[test]
fn tensors_that_do_not_fit() {
    let dir = folder(&[(
        SINGLE,
        &shard(&[
            Stored("layers.0.attn.wq_a.weight", "F8_E4M3", vec![130, 2], ramp(260)),
            Stored("layers.0.attn.wq_a.scale", "F8_E8M0", vec![2, 1], ramp(2)),
            Stored("layers.0.attn.wkv.weight", "F8_E4M3", vec![2, 3], ramp(6)),
            Stored("layers.0.attn.wo_a.weight", "F8_E4M3", vec![2, 3], ramp(6)),
            Stored("layers.0.attn.wo_a.weight_scale_inv", "F8_E8M0", vec![1, 2], ramp(2)),
            Stored("layers.0.ffn.experts.0.w1.weight", "I8", vec![2, 32], ramp(64)),
            Stored("layers.0.ffn.experts.0.w1.scale", "F8_E8M0", vec![2, 2], ramp(4)),
            Stored(
                "layers.0.ffn.gate.tid2eid",
                "I64",
                vec![2, 1],
                [1i64.to_le_bytes(), (1i64 << 40).to_le_bytes()].concat(),
            ),
            Stored("norm.weight", "BF16", vec![3], ramp(6)),
            Stored("embed.weight", "F64", vec![1], ramp(8)),
        ]),
    )]);
    let ckpt = Checkpoint::open(dir.path()).unwrap();
    let missing = ckpt.tensor("head.weight").unwrap_err();
    assert_error!(missing, CheckpointError::Missing { tensor, .. } if tensor == "head.weight");
    assert_error!(ckpt.tensor("embed.weight").unwrap_err(), CheckpointError::UnsupportedDType { .. });
    assert_error!(ckpt.expect("norm.weight", &[4]).unwrap_err(), CheckpointError::WrongShape { .. });
    assert_error!(ckpt.expect("norm.weight", &[3, 1]).unwrap_err(), CheckpointError::WrongShape { .. });
    assert_error!(ckpt.ids("norm.weight", &[3]).unwrap_err(), CheckpointError::WrongDType { .. });
    assert_error!(ckpt.float("layers.0.attn.wkv.weight", &[2, 3]).unwrap_err(), CheckpointError::WrongDType { .. });
    let table = "layers.0.ffn.gate.tid2eid";
    assert_error!(ckpt.weight(table, [2, 1], BLOCK).unwrap_err(), CheckpointError::WrongDType { .. });
    assert_eq!(ckpt.ids(table, &[2, 1]).unwrap().to_i64(), Some(vec![1, 1 << 40]));
    assert_error!(ckpt.ids_i32(table, &[2, 1]).unwrap_err(), CheckpointError::IdRange { index: 1, .. });
    assert!(matches!(ckpt.weight("layers.0.attn.wq_a.weight", [130, 2], BLOCK), Ok(Weight::Fp8 { .. })));
    assert_error!(
        ckpt.weight("layers.0.attn.wkv.weight", [2, 3], BLOCK).unwrap_err(),
        CheckpointError::MissingScale { .. }
    );
    assert_error!(
        ckpt.weight("layers.0.attn.wo_a.weight", [2, 3], BLOCK).unwrap_err(),
        CheckpointError::WrongScaleShape { .. }
    );
    assert!(matches!(ckpt.weight("layers.0.ffn.experts.0.w1.weight", [2, 64], BLOCK), Ok(Weight::Fp4 { .. })));
    assert_error!(
        ckpt.weight("layers.0.ffn.experts.0.w1.weight", [2, 32], BLOCK).unwrap_err(),
        CheckpointError::WrongShape { .. }
    );

    let spec = |name: &str, dtype, shape: &[u64]| TensorSpec { name: name.into(), dtype, shape: shape.to_vec() };
    let config = Config::tiny();
    let fits = [
        spec("layers.0.attn.wq_a.weight", DType::E4M3, &[130, 2]),
        spec("layers.0.attn.wq_a.scale", DType::UE8M0, &[2, 1]),
        spec("norm.weight", DType::BF16, &[3]),
    ];
    let checked = ckpt.check(&config, fits).unwrap();
    assert_eq!((checked.tensors, checked.bytes, checked.extra.len()), (3, 268, 7));
    let one = [spec("norm.weight", DType::F32, &[2])];
    assert_error!(ckpt.check(&config, one).unwrap_err(), CheckpointError::WrongShape { .. });
    let many = (0..9).map(|n| spec(&format!("layers.{n}.attn_norm.weight"), DType::BF16, &[3]));
    let e = ckpt.check(&config, many).unwrap_err();
    assert!(e.to_string().contains("9 tensors") && e.to_string().contains("3 more"), "{e}");
}

#[test]
fn stacks_of_the_wrong_form() {
    let dir = folder(&[(
        SINGLE,
        &shard(&[
            Stored("model.layers.0.mlp.experts.gate_up_proj", "F32", vec![2, 3, 1], ramp(24)),
            Stored("model.layers.0.mlp.experts.down_proj", "F32", vec![2, 3], ramp(24)),
            Stored("model.layers.1.mlp.experts.gate_up_proj", "F32", vec![2, 2, 1], ramp(16)),
            Stored("model.layers.1.mlp.experts.down_proj", "F32", vec![0, 2, 1], vec![]),
        ]),
    )]);
    let ckpt = Checkpoint::open(dir.path()).unwrap();
    let expert = |name: &str| ckpt.tensor(&format!("layers.{name}.weight"));
    assert_error!(expert("0.ffn.experts.0.w1").unwrap_err(), CheckpointError::StackShape { halves: true, .. });
    assert_error!(expert("0.ffn.experts.0.w2").unwrap_err(), CheckpointError::StackShape { halves: false, .. });
    assert_eq!(expert("1.ffn.experts.1.w3").unwrap().bytes, [12, 13, 14, 15]);
    assert_error!(
        expert("1.ffn.experts.2.w3").unwrap_err(),
        CheckpointError::NoSuchExpert { expert: 2, experts: 2, .. }
    );
    assert_error!(expert("1.ffn.experts.0.w2").unwrap_err(), CheckpointError::NoSuchExpert { experts: 0, .. });
    let far = format!("1.ffn.experts.{}.w1", usize::MAX);
    assert_error!(expert(&far).unwrap_err(), CheckpointError::NoSuchExpert { .. });
}

/// Opens whatever the folder holds and, where that works, asks for everything in it.
fn exercise(dir: &Path) {
    if let Ok(ckpt) = Checkpoint::open(dir) {
        let names: Vec<String> = ckpt.names().map(str::to_owned).collect();
        for name in &names {
            if let Ok(t) = ckpt.tensor(name) {
                let elements: usize = t.shape.iter().product();
                assert_eq!(t.bytes.len(), elements * t.dtype.bytes());
            }
            let _ = ckpt.weight(name, [2, 3], BLOCK);
        }
        for k in 0..3 {
            let _ = ckpt.tensor(&format!("layers.0.ffn.experts.{k}.w1.weight"));
        }
        let _ = ckpt.bytes_total();
    }
}

/// Overwrites, removes and inserts bytes.
fn mutated(mut bytes: Vec<u8>, edits: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    for (kind, at, value) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind % 4 {
            0 => bytes[at] = *value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *value),
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_mutated_shard_never_panics(edits in edits(), stacked in any::<bool>()) {
        let whole = if stacked {
            shard(&[Stored("model.layers.0.mlp.experts.gate_up_proj", "F32", vec![2, 2, 1], ramp(16))])
        } else {
            valid()
        };
        exercise(folder(&[(SINGLE, &mutated(whole, &edits))]).path());
    }

    #[test]
    fn a_mutated_index_never_panics(edits in edits()) {
        let text = index(&[("norm.weight", "a"), ("layers.0.attn.wkv.weight", "a")]);
        exercise(folder(&[(INDEX, &mutated(text.into_bytes(), &edits)), ("a", &valid())]).path());
    }

    #[test]
    fn arbitrary_numbers_in_a_header_never_panic(
        shape in prop::collection::vec(any::<u64>(), 0..4),
        (a, b) in any::<(u64, u64)>(),
    ) {
        let header = format!("{{\"norm.weight\":{{\"dtype\":\"F4\",\"shape\":{shape:?},\"data_offsets\":[{a},{b}]}}}}");
        exercise(folder(&[(SINGLE, &raw(&header, &ramp(32)))]).path());
    }
}
