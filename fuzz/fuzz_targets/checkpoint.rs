//! Opens arbitrary bytes as a shard, as the header of a shard, or as an index; then asks for every tensor.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use anychip_runtime::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// One folder for shards and one for indexes; the latter holds a valid shard `a` for the index to name.
static FOLDERS: LazyLock<[TempDir; 2]> = LazyLock::new(|| {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let entry =
        |name, start, end| format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[{start},{end}]}}");
    let header = format!("{{{},{}}}", entry("norm.weight", 0, 8), entry("head.weight", 8, 16));
    fs::write(folders[1].path().join("a"), shard(header.as_bytes(), 16)).expect("the shard is written");
    folders
});

/// A shard with this header and `bytes` zero bytes of data.
fn shard(header: &[u8], bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, &vec![0; bytes]].concat()
}

fn exercise(dir: &Path) {
    let Ok(checkpoint) = Checkpoint::open(dir) else { return };
    for name in checkpoint.names() {
        if let Ok(tensor) = checkpoint.tensor(name) {
            let elements: usize = tensor.shape.iter().product();
            assert_eq!(tensor.bytes.len(), elements * tensor.dtype.bytes());
            // The last byte is readable, too.
            std::hint::black_box(tensor.bytes.last());
        }
        let _ = checkpoint.weight(name, [2, 64], [128, 128]);
    }
    for matrix in ["w1", "w2", "w3"] {
        for part in ["weight", "scale"] {
            let _ = checkpoint.tensor(&format!("layers.0.ffn.experts.1.{matrix}.{part}"));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let [shards, indexes] = &*FOLDERS;
    let (dir, name, content) = match mode % 3 {
        0 => (shards.path(), SINGLE, data.to_vec()),
        1 => (shards.path(), SINGLE, shard(data, 64)),
        _ => (indexes.path(), INDEX, data.to_vec()),
    };
    // A new file each time: the one before may not be truncated while anything still maps it.
    let _ = fs::remove_file(dir.join(name));
    fs::write(dir.join(name), content).expect("the file is written");
    exercise(dir);
});
