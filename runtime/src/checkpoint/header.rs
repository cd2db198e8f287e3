//! The header of one safetensors file: 8 bytes of length, then JSON, then the data section.
//!
//! The entries are read with the types of the `safetensors` crate, its rules are kept (no overlap, no gap, no bytes
//! left over) and three are added that it lacks: a name described twice is refused instead of overwritten, sums of
//! hostile offsets cannot overflow, and every error names the tensor.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::error::CheckpointError;

/// The format's limit on the header's length; the `safetensors` crate has the same.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the length field.
const LENGTH: usize = 8;

/// One tensor of a shard. `start..end` are bytes of the file and lie inside it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Of stacked gate and up matrices `[experts, 2 rows, columns]`: `[rows, columns]`, kept so that a view of one of
    /// them can borrow its shape. Empty for everything else.
    pub(crate) half: Vec<usize>,
}

/// Reads and checks the header of the shard `file`, whose content is `bytes`. Entries come back sorted by name.
///
/// # Errors
/// The `Header*`, `Offsets*`, `ShapeOverflow` and `SizeMismatch` variants of [`CheckpointError`].
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Entry>, CheckpointError> {
    let file = || file.to_owned();
    let got = bytes.len() as u64;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Err(CheckpointError::HeaderTooSmall { file: file(), got });
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(CheckpointError::HeaderTooLarge { file: file(), got: length, limit: MAX_HEADER });
    }
    let needs = LENGTH as u64 + length;
    let Some((json, data)) = rest.split_at_checked(length as usize) else {
        return Err(CheckpointError::HeaderTruncated { file: file(), needs, got });
    };
    let Described(mut described) = serde_json::from_slice(json)
        .map_err(|e| CheckpointError::HeaderSyntax { file: file(), reason: e.to_string() })?;
    described.sort_unstable_by_key(|(_, info)| info.data_offsets);

    let base = needs as usize;
    let mut covered = 0usize;
    let mut before = String::new();
    let mut entries = Vec::with_capacity(described.len());
    for (name, info) in described {
        let (start, end) = info.data_offsets;
        if start > end {
            return Err(CheckpointError::OffsetsReversed {
                file: file(),
                tensor: name,
                start: start as u64,
                end: end as u64,
            });
        }
        if end > data.len() {
            return Err(CheckpointError::OffsetsOutside {
                file: file(),
                tensor: name,
                end: end as u64,
                available: data.len() as u64,
            });
        }
        if start < covered {
            return Err(CheckpointError::OffsetsOverlap {
                file: file(),
                tensor: name,
                other: before,
                start: start as u64,
                end: covered as u64,
            });
        }
        if start > covered {
            return Err(CheckpointError::OffsetsGap { file: file(), start: covered as u64, end: start as u64 });
        }
        let bits = info.shape.iter().try_fold(info.dtype.bitsize() as u64, |n, &d| n.checked_mul(d as u64));
        let Some(needs) = bits else {
            return Err(CheckpointError::ShapeOverflow { file: file(), tensor: name, shape: info.shape });
        };
        if !needs.is_multiple_of(8) || needs / 8 != (end - start) as u64 {
            return Err(CheckpointError::SizeMismatch {
                file: file(),
                tensor: name,
                dtype: info.dtype,
                shape: info.shape,
                needs,
                got: (end - start) as u64,
            });
        }
        covered = end;
        before.clone_from(&name);
        let half = match info.shape[..] {
            [_, rows, columns] if rows % 2 == 0 => vec![rows / 2, columns],
            _ => Vec::new(),
        };
        entries.push(Entry { name, dtype: info.dtype, shape: info.shape, start: base + start, end: base + end, half });
    }
    if covered < data.len() {
        return Err(CheckpointError::OffsetsGap { file: file(), start: covered as u64, end: data.len() as u64 });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match entries.iter().zip(entries.iter().skip(1)).find(|(a, b)| a.name == b.name) {
        Some((twice, _)) => Err(CheckpointError::HeaderDuplicate { file: file(), tensor: twice.name.clone() }),
        None => Ok(entries),
    }
}

/// The header's JSON object in the order written, duplicates included.
struct Described(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Described, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Described;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensor descriptions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Described, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let wrong = |e: A::Error| A::Error::custom(format!("tensor `{name}`: {e}"));
                    if name == "__metadata__" {
                        map.next_value::<HashMap<String, String>>().map_err(wrong)?;
                    } else {
                        let info = map.next_value::<TensorInfo>().map_err(wrong)?;
                        entries.push((name, info));
                    }
                }
                Ok(Described(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn parsed(json: &str, data: usize) -> Result<Vec<Entry>, CheckpointError> {
        parse(Path::new("x.safetensors"), &file(json, data))
    }

    fn f32_at(name: &str, n: usize, start: u64, end: u64) -> String {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{n}],\"data_offsets\":[{start},{end}]}}")
    }

    #[test]
    fn reads_entries_in_any_order_and_sorts_by_name() {
        let json = format!("{{\"__metadata__\":{{\"k\":\"v\"}},{},{}}}  ", f32_at("b", 2, 0, 8), f32_at("a", 1, 8, 12));
        let entries = parsed(&json, 12).unwrap();
        let base = 8 + json.len();
        let got: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.start - base, e.end - base)).collect();
        assert_eq!(got, [("a", 8, 12), ("b", 0, 8)]);
        assert_eq!(entries[1].shape, [2]);
    }

    #[test]
    fn an_empty_header_and_zero_sized_tensors_are_legal() {
        assert!(parsed("{}", 0).unwrap().is_empty());
        let json = format!("{{{},{},{}}}", f32_at("a", 0, 0, 0), f32_at("b", 1, 0, 4), f32_at("c", 0, 4, 4));
        assert_eq!(parsed(&json, 4).unwrap().len(), 3);
    }

    #[test]
    fn length_field_beyond_the_file_or_the_format() {
        for short in 0..8 {
            let e = parse(Path::new("x"), &vec![0; short]).unwrap_err();
            assert!(matches!(e, CheckpointError::HeaderTooSmall { got, .. } if got == short as u64), "{e}");
        }
        let mut bytes = file("{}", 0);
        bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        let e = parse(Path::new("x"), &bytes).unwrap_err();
        assert!(matches!(e, CheckpointError::HeaderTooLarge { got, .. } if got == 1 << 60), "{e}");
        bytes[..8].copy_from_slice(&3u64.to_le_bytes());
        let e = parse(Path::new("x"), &bytes).unwrap_err();
        assert!(matches!(e, CheckpointError::HeaderTruncated { needs: 11, got: 10, .. }), "{e}");
    }

    #[test]
    fn every_broken_offset_has_its_own_error() {
        let error = |entries: &[String], data| parsed(&format!("{{{}}}", entries.join(",")), data).unwrap_err();
        let e = error(&[f32_at("a", 1, 8, 4)], 8);
        assert!(matches!(e, CheckpointError::OffsetsReversed { start: 8, end: 4, .. }), "{e}");
        let e = error(&[f32_at("a", 2, 0, 8)], 7);
        assert!(matches!(e, CheckpointError::OffsetsOutside { end: 8, available: 7, .. }), "{e}");
        let e = error(&[f32_at("a", 2, 0, 8), f32_at("b", 2, 4, 12)], 12);
        assert!(matches!(&e, CheckpointError::OffsetsOverlap { tensor, other, .. } if tensor == "b" && other == "a"));
        let e = error(&[f32_at("a", 1, 0, 4), f32_at("b", 1, 8, 12)], 12);
        assert!(matches!(e, CheckpointError::OffsetsGap { start: 4, end: 8, .. }), "{e}");
        let e = error(&[f32_at("a", 1, 0, 4)], 5);
        assert!(matches!(e, CheckpointError::OffsetsGap { start: 4, end: 5, .. }), "{e}");
        let e = error(&[f32_at("a", 3, 0, 8)], 8);
        assert!(matches!(e, CheckpointError::SizeMismatch { needs: 96, got: 8, .. }), "{e}");
        let e = error(&[f32_at("a", 1, 0, 4), f32_at("a", 1, 4, 8)], 8);
        assert!(matches!(&e, CheckpointError::HeaderDuplicate { tensor, .. } if tensor == "a"), "{e}");
    }

    #[test]
    fn huge_numbers_do_not_overflow() {
        let max = u64::MAX;
        let e = parsed(&format!("{{{}}}", f32_at("a", 1, 0, max)), 4).unwrap_err();
        assert!(matches!(e, CheckpointError::OffsetsOutside { end, .. } if end == max), "{e}");
        let e = parsed(&format!("{{{}}}", f32_at("a", usize::MAX, 0, 4)), 4).unwrap_err();
        assert!(matches!(e, CheckpointError::ShapeOverflow { .. }), "{e}");
        let e = parsed("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,1e30]}}", 4).unwrap_err();
        assert!(matches!(e, CheckpointError::HeaderSyntax { .. }), "{e}");
    }

    #[test]
    fn syntax_errors_name_the_tensor() {
        let cases = [
            "{\"bad\":{\"dtype\":\"F9\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            "{\"bad\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
            "{\"bad\":{\"dtype\":\"F32\",\"shape\":[1]}}",
            "{\"bad\":[]}",
        ];
        for json in cases {
            let e = parsed(json, 4).unwrap_err();
            assert!(matches!(&e, CheckpointError::HeaderSyntax { .. }) && e.to_string().contains("`bad`"), "{e}");
        }
        for json in ["", "[]", "{", "\u{fffd}", "{\"a\":", "null"] {
            let e = parsed(json, 4).unwrap_err();
            assert!(matches!(e, CheckpointError::HeaderSyntax { .. }), "{json}: {e}");
        }
        let deep = format!("{{\"a\":{}}}", "[".repeat(100_000));
        assert!(matches!(parsed(&deep, 0), Err(CheckpointError::HeaderSyntax { .. })));
        let mut bytes = file("{\"a\":0}", 0);
        bytes[10] = 0xFF;
        assert!(matches!(parse(Path::new("x"), &bytes), Err(CheckpointError::HeaderSyntax { .. })));
    }

    #[test]
    fn elements_below_a_byte_must_fill_whole_bytes() {
        let json = "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}";
        assert!(matches!(parsed(json, 1), Err(CheckpointError::SizeMismatch { needs: 12, .. })));
        let json = "{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}";
        assert_eq!(parsed(json, 1).unwrap().len(), 1);
    }
}
