//! `model.safetensors.index.json`: which shard holds which tensor, and where a shard may lie.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::error::CheckpointError;

/// The largest index read, in bytes. That of V4-Pro (145116 tensors) has 15 MB.
const MAX_INDEX: u64 = 256 << 20;

/// `(tensor, shard file)` in the order of the file. Both are whatever the file says; [`locate`] judges the shard.
pub(crate) type WeightMap = Vec<(String, String)>;

/// Reads the index at `file`.
///
/// # Errors
/// [`Io`](CheckpointError::Io) and the `Index*` variants of [`CheckpointError`].
pub(crate) fn read(file: &Path) -> Result<WeightMap, CheckpointError> {
    let failed = |doing| move |source: io::Error| CheckpointError::Io { file: file.to_owned(), doing, source };
    if !fs::metadata(file).map_err(failed("look at the file"))?.is_file() {
        return Err(CheckpointError::NotRegular { file: file.to_owned() });
    }
    let handle = File::open(file).map_err(failed("open the file"))?;
    let mut text = Vec::new();
    let got = handle.take(MAX_INDEX + 1).read_to_end(&mut text).map_err(failed("read the file"))? as u64;
    if got > MAX_INDEX {
        return Err(CheckpointError::IndexTooLarge { file: file.to_owned(), got, limit: MAX_INDEX });
    }
    parse(file, &text)
}

/// Reads the text of an index; `file` is only named in errors.
pub(crate) fn parse(file: &Path, text: &[u8]) -> Result<WeightMap, CheckpointError> {
    let index: Index = serde_json::from_slice(text)
        .map_err(|e| CheckpointError::IndexSyntax { file: file.to_owned(), reason: e.to_string() })?;
    let Pairs(weight_map) = index.weight_map;
    if weight_map.is_empty() {
        return Err(CheckpointError::IndexEmpty { file: file.to_owned() });
    }
    let mut seen = HashSet::with_capacity(weight_map.len());
    match weight_map.iter().find(|(tensor, _)| !seen.insert(tensor)) {
        Some((tensor, _)) => Err(CheckpointError::IndexDuplicate { file: file.to_owned(), tensor: tensor.clone() }),
        None => Ok(weight_map),
    }
}

/// The real path of `shard` in the checkpoint folder `dir`, or `None` where there is no such file.
///
/// The index comes with the download, so it is not trusted to say what is read: after following every link the file
/// must lie inside `dir`. The one exception is the cache of the Hugging Face Hub, in which a folder
/// `NAME/snapshots/REVISION` consists of links into `NAME/blobs`.
///
/// # Errors
/// [`ShardOutside`](CheckpointError::ShardOutside), naming `index` and `tensor`; [`Io`](CheckpointError::Io).
pub(crate) fn locate(
    dir: &Path,
    index: &Path,
    tensor: Option<&str>,
    shard: &str,
) -> Result<Option<PathBuf>, CheckpointError> {
    let outside = |rule| CheckpointError::ShardOutside {
        file: index.to_owned(),
        tensor: tensor.map(str::to_owned),
        shard: shard.to_owned(),
        rule,
    };
    let failed = |file: &Path| {
        let file = file.to_owned();
        move |source| CheckpointError::Io { file, doing: "resolve the path", source }
    };
    let relative = Path::new(shard);
    if relative.has_root() || matches!(relative.components().next(), Some(Component::Prefix(_))) {
        return Err(outside("an absolute path"));
    }
    if shard.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(outside("only plain names may make up the path, no `.` and no `..`"));
    }
    let path = dir.join(relative);
    let real = match fs::canonicalize(&path) {
        Ok(real) => real,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(failed(&path)(e)),
    };
    let home = fs::canonicalize(dir).map_err(failed(dir))?;
    if real.starts_with(&home) || hub_blobs(&home).is_some_and(|blobs| real.starts_with(blobs)) {
        Ok(Some(real))
    } else {
        Err(outside("a link that leads out of it"))
    }
}

/// `NAME/blobs` for a folder `NAME/snapshots/REVISION`.
fn hub_blobs(home: &Path) -> Option<PathBuf> {
    let snapshots = home.parent().filter(|p| p.file_name() == Some(OsStr::new("snapshots")))?;
    fs::canonicalize(snapshots.parent()?.join("blobs")).ok()
}

/// The fields that are used. `metadata.total_size` is not: tools disagree on what it counts.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: Pairs,
}

/// A JSON object as pairs, so that a key written twice is seen.
struct Pairs(WeightMap);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of file names by tensor name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<WeightMap, CheckpointError> {
        parse(Path::new("i.json"), text.as_bytes())
    }

    #[test]
    fn keeps_order_and_ignores_other_fields() {
        let map =
            parsed("{\"metadata\":{\"total_size\":1.5},\"weight_map\":{\"b\":\"1\",\"a\":\"2\"},\"x\":[]}").unwrap();
        assert_eq!(map, [("b".into(), "1".into()), ("a".into(), "2".into())]);
    }

    #[test]
    fn refuses_what_is_no_index() {
        for text in ["", "[]", "{}", "{\"weight_map\":[]}", "{\"weight_map\":{\"a\":1}}", "{\"weight_map\":{}", "\u{0}"]
        {
            assert!(matches!(parsed(text), Err(CheckpointError::IndexSyntax { .. })), "{text}");
        }
        assert!(matches!(parsed("{\"weight_map\":{}}"), Err(CheckpointError::IndexEmpty { .. })));
        let twice = parsed("{\"weight_map\":{\"a\":\"1\",\"b\":\"1\",\"a\":\"2\"}}").unwrap_err();
        assert!(matches!(&twice, CheckpointError::IndexDuplicate { tensor, .. } if tensor == "a"), "{twice}");
    }

    #[test]
    fn only_plain_relative_names_are_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a"), "x").unwrap();
        let at = |shard: &str| locate(dir.path(), Path::new("i.json"), Some("t"), shard);
        assert!(at("sub/a").unwrap().is_some());
        assert!(at("sub/b").unwrap().is_none());
        assert!(at("sub/a/b").unwrap().is_none());
        for bad in ["", ".", "..", "../a", "sub/../sub/a", "./sub/a", "/etc/passwd"] {
            let e = at(bad).unwrap_err();
            assert!(matches!(e, CheckpointError::ShardOutside { .. }), "{bad}: {e}");
        }
        assert!(at("a\0b").is_err());
    }
}
