//! Failing cases as files, to be looked at with any tool and run again.

use crate::builder::Built;
use crate::case::Case;
use crate::report::Failure;
use anychip_core::{DType, DeviceInfo, Op};
use anychip_reference::{Bounded, Output, Real, Values};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Value of the `schema` entry of the files' metadata.
pub(super) const SCHEMA: &str = "anychip.failure/1";

/// One tensor of the file, its bytes little-endian.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes `<case>.<device>.safetensors` into `dir`, slashes of the case's name as `-`, and gives the path.
///
/// For each operand of the operation it holds `before/NAME`, for each output that the device wrote `after/NAME`, and where
/// the oracle was asked `want/NAME` and `bound/NAME` (f64: the value, and the error that the declared arithmetic allows
/// before the store; integers and bytes are exact). Of a relation between two runs it holds the operands of the first form
/// alone, from which the others are made. The metadata name the case, the device, what broke and by which version of the
/// suite.
///
/// # Errors
/// In words: the folder or the file cannot be written.
pub(super) fn save(
    dir: &Path,
    case: &Case,
    info: &DeviceInfo,
    failure: &Failure,
    op: &Op,
    built: &Built,
    after: &[Vec<u8>],
    wanted: &[Output<Bounded>],
) -> Result<PathBuf, String> {
    let mut entries = BTreeMap::new();
    for (name, access, tensor) in op.operands() {
        let Some(index) = built.operand(&tensor) else { continue };
        let operand = &built.operands[index];
        let entry = |bytes: &[u8]| {
            let (dtype, shape) = layout(tensor.dtype(), tensor.sizes(), bytes.len());
            Entry { dtype, shape, bytes: bytes.to_vec() }
        };
        entries.insert(format!("before/{name}"), entry(operand.view(operand.before(), &tensor)));
        if let (true, Some(after)) = (access != anychip_core::Access::Read, after.get(index)) {
            entries.insert(format!("after/{name}"), entry(operand.view(after, &tensor)));
        }
        let Some(want) = wanted.iter().find(|output| output.operand == name) else { continue };
        let shaped = |count: usize| if tensor.count() == count { tensor.sizes().to_vec() } else { vec![count] };
        let real = |values: Vec<f64>| Entry {
            dtype: Dtype::F64,
            shape: shaped(values.len()),
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        let value = match &want.values {
            Values::Real(all) => {
                entries.insert(format!("bound/{name}"), real(all.iter().map(|x| x.error()).collect()));
                real(all.iter().map(|x| x.value()).collect())
            }
            Values::Integers(all) => Entry {
                dtype: Dtype::I32,
                shape: shaped(all.len()),
                bytes: all.iter().flat_map(|x| x.to_le_bytes()).collect(),
            },
            Values::Bytes(all) => Entry { dtype: Dtype::U8, shape: vec![all.len()], bytes: all.clone() },
        };
        entries.insert(format!("want/{name}"), value);
    }
    let file = dir.join(format!("{}.{}.safetensors", plain(&case.name), plain(&info.name)));
    let metadata = HashMap::from(
        [
            ("schema", SCHEMA),
            ("suite_version", env!("CARGO_PKG_VERSION")),
            ("case", &case.name),
            ("op", case.op_name),
            ("device", &info.name),
            ("description", &info.description),
            ("rule", &failure.rule.to_string()),
            ("message", &failure.message),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let write = || -> Result<(), String> {
        let mut views = Vec::new();
        for (name, Entry { dtype, shape, bytes }) in &entries {
            views.push((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| format!("{name}: {e}"))?));
        }
        std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())?;
        std::fs::write(&file, bytes).map_err(|e| e.to_string())
    };
    write().map_err(|error| format!("{}: cannot be written: {error}", file.display()))?;
    Ok(file)
}

/// A name as part of a file's name on any system.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

/// How a tensor lies in the file: codes of e2m1, two to a byte, are bytes without a shape.
pub(super) fn layout(dtype: DType, sizes: &[usize], bytes: usize) -> (Dtype, Vec<usize>) {
    let dtype = match dtype {
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::E4M3 => Dtype::F8_E4M3,
        DType::UE8M0 => Dtype::F8_E8M0,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        _ => return (Dtype::U8, vec![bytes]),
    };
    (dtype, sizes.to_vec())
}
