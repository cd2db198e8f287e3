//! Everything that can be wrong with a checkpoint folder, one variant to a rule.

use std::io;
use std::path::PathBuf;

use super::tensor::FileDType;

/// Why a checkpoint could not be opened, or a tensor could not be given.
///
/// Each message names the file or tensor, the rule, what was found and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The folder holds neither an index nor a single file.
    #[error(
        "{}: no checkpoint: neither `model.safetensors.index.json` nor `model.safetensors` is there; \
         give the folder that holds config.json and the *.safetensors files", .dir.display()
    )]
    NoCheckpoint {
        /// The folder that was opened.
        dir: PathBuf,
    },
    /// The path given is not a folder.
    #[error("{}: not a folder; give the folder that holds the checkpoint, not one of its files", .dir.display())]
    NotAFolder {
        /// The path that was opened.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}; check that the file exists and that you may read it", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was tried, for example "map".
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A shard is a folder, a pipe or a device.
    #[error("{}: not a regular file, so it cannot be mapped; put the downloaded shard itself there", .file.display())]
    NotRegular {
        /// The shard.
        file: PathBuf,
    },
    /// A shard has no bytes.
    #[error("{}: the file is empty (0 bytes); download it again", .file.display())]
    Empty {
        /// The shard.
        file: PathBuf,
    },
    /// The index is larger than any index can be.
    #[error("{}: an index of {got} bytes; at most {limit} are read; this is not a safetensors index", .file.display())]
    IndexTooLarge {
        /// The index.
        file: PathBuf,
        /// Its size in bytes.
        got: u64,
        /// The largest size read, in bytes.
        limit: u64,
    },
    /// The index is not the JSON that it must be.
    #[error(
        "{}: not a safetensors index: {reason}; it must be a JSON object with \
         `\"weight_map\": {{\"tensor\": \"file\"}}`; download it again", .file.display()
    )]
    IndexSyntax {
        /// The index.
        file: PathBuf,
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// The index names one tensor twice.
    #[error("{}: tensor `{tensor}` is listed twice in weight_map; keep one entry", .file.display())]
    IndexDuplicate {
        /// The index.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The index lists no tensor.
    #[error("{}: weight_map lists no tensor; download the index again", .file.display())]
    IndexEmpty {
        /// The index.
        file: PathBuf,
    },
    /// A shard's name, or the link behind it, leads out of the checkpoint folder.
    #[error(
        "{}: `{shard}`{} lies outside the checkpoint folder ({rule}); a shard must be a file inside it: \
         move the file there and name it by a relative path",
        .file.display(), .tensor.as_ref().map(|t| format!(" (of tensor `{t}`)")).unwrap_or_default()
    )]
    ShardOutside {
        /// The index, or the folder when there is no index.
        file: PathBuf,
        /// The first tensor that names the shard.
        tensor: Option<String>,
        /// The shard as named.
        shard: String,
        /// Which rule it breaks: an absolute path, a `..` or `.` component, or a link.
        rule: &'static str,
    },
    /// The index names a shard that is not there.
    #[error(
        "{}: shard `{shard}` (of tensor `{tensor}`) is not in the folder; \
         the download is incomplete: fetch that file", .file.display()
    )]
    ShardMissing {
        /// The index.
        file: PathBuf,
        /// The first tensor that names the shard.
        tensor: String,
        /// The shard as named.
        shard: String,
    },
    /// The index says that a shard holds a tensor, and it does not.
    #[error(
        "{}: has no tensor `{tensor}`, although the index says so; \
         index and shard are of different downloads: fetch both again", .shard.display()
    )]
    NotInShard {
        /// The shard.
        shard: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A shard is too short for the length field.
    #[error("{}: {got} bytes; a safetensors file begins with 8 bytes of length; download it again", .file.display())]
    HeaderTooSmall {
        /// The shard.
        file: PathBuf,
        /// Its size in bytes.
        got: u64,
    },
    /// The header claims more than the format allows.
    #[error(
        "{}: the header claims {got} bytes; the safetensors format allows {limit}; \
         this is not a safetensors file, or its first bytes are damaged", .file.display()
    )]
    HeaderTooLarge {
        /// The shard.
        file: PathBuf,
        /// The claimed length in bytes.
        got: u64,
        /// The format's limit in bytes.
        limit: u64,
    },
    /// The file ends inside the header.
    #[error(
        "{}: the header needs {needs} bytes of file and the file has {got}; the shard is truncated: download it again",
        .file.display()
    )]
    HeaderTruncated {
        /// The shard.
        file: PathBuf,
        /// Bytes up to the end of the header.
        needs: u64,
        /// The file's size in bytes.
        got: u64,
    },
    /// The header is not the JSON that it must be.
    #[error("{}: the header cannot be read: {reason}; download the shard again", .file.display())]
    HeaderSyntax {
        /// The shard.
        file: PathBuf,
        /// The parser's reason, with the tensor where it has one.
        reason: String,
    },
    /// The header names one tensor twice.
    #[error("{}: tensor `{tensor}` is described twice in the header; names must be unique", .file.display())]
    HeaderDuplicate {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor's bytes end before they begin.
    #[error("{}: tensor `{tensor}`: data_offsets [{start}, {end}] run backwards; download it again", .file.display())]
    OffsetsReversed {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte in the data section.
        start: u64,
        /// Byte after the last one.
        end: u64,
    },
    /// A tensor's bytes lie past the end of the file.
    #[error(
        "{}: tensor `{tensor}` ends at byte {end} of the data section, which has {available}; \
         the shard is truncated or its header is damaged: download it again", .file.display()
    )]
    OffsetsOutside {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Byte after the tensor's last one, in the data section.
        end: u64,
        /// Bytes that the data section has.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "{}: tensor `{tensor}` begins at byte {start} of the data section, before `{other}` ends at byte {end}; \
         tensors must not overlap: download the shard again", .file.display()
    )]
    OffsetsOverlap {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The tensor before it.
        other: String,
        /// First byte of `tensor`.
        start: u64,
        /// Byte after the last one of `other`.
        end: u64,
    },
    /// Bytes belong to no tensor.
    #[error(
        "{}: bytes {start}..{end} of the data section belong to no tensor; \
         the safetensors format allows no gap: download the shard again", .file.display()
    )]
    OffsetsGap {
        /// The shard.
        file: PathBuf,
        /// First such byte.
        start: u64,
        /// Byte after the last one.
        end: u64,
    },
    /// A shape has more elements than can be addressed.
    #[error("{}: tensor `{tensor}`: shape {shape:?} overflows 64 bits; the header is damaged", .file.display())]
    ShapeOverflow {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Shape and dtype need another number of bytes than the offsets give.
    #[error(
        "{}: tensor `{tensor}`: {dtype} {shape:?} takes {needs} bits and data_offsets give {got} bytes; \
         the header is damaged: download the shard again", .file.display()
    )]
    SizeMismatch {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type as the file spells it.
        dtype: safetensors::Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// Bits that shape and dtype need.
        needs: u64,
        /// Bytes that the offsets give.
        got: u64,
    },
    /// No name is one of a DeepSeek V4 checkpoint.
    #[error(
        "{}: none of the {tensors} tensor names is of a DeepSeek V4 checkpoint (`layers.N.` as published, or \
         `model.layers.N.` as transformers saves it); is this another model?", .dir.display()
    )]
    LayoutUnknown {
        /// The folder.
        dir: PathBuf,
        /// How many tensors it has.
        tensors: usize,
    },
    /// Names of both layouts occur.
    #[error(
        "{}: `{official}` is a published name and `{transformers}` a transformers name; \
         a folder must hold one layout: remove the shards of the other", .dir.display()
    )]
    LayoutMixed {
        /// The folder.
        dir: PathBuf,
        /// A name of the published layout.
        official: String,
        /// A name of the transformers layout.
        transformers: String,
    },
    /// A tensor that was asked for is not in the checkpoint.
    #[error(
        "{}: tensor `{tensor}` is missing{}; the download is incomplete, or config.json describes another model",
        .dir.display(), also(tensor, sought)
    )]
    Missing {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The tensor, by its published name.
        tensor: String,
        /// The names under which it was looked for in the files.
        sought: Vec<String>,
    },
    /// A quantised weight has no scales.
    #[error(
        "{}: weight `{weight}` is {dtype} and its scales `{tensor}` are missing; \
         a quantised weight is useless without them: fetch the shard that holds them", .dir.display()
    )]
    MissingScale {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The scale tensor, by its published name.
        tensor: String,
        /// The weight.
        weight: String,
        /// The weight's element type.
        dtype: FileDType,
    },
    /// A stacked expert tensor cannot be divided into experts.
    #[error(
        "{}: `{tensor}` is {shape:?}; stacked experts must be [experts, rows, columns]{}", .dir.display(),
        if *.halves { ", with an even number of rows (gate above up)" } else { "" }
    )]
    StackShape {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The stacked tensor, as the file names it.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Whether its rows are two matrices.
        halves: bool,
    },
    /// An expert past the end of a stack was asked for.
    #[error(
        "{}: expert {expert} was asked for and `{tensor}` stacks {experts}; \
         config.json's n_routed_experts does not belong to these files", .dir.display()
    )]
    NoSuchExpert {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The stacked tensor, as the file names it.
        tensor: String,
        /// The expert asked for.
        expert: usize,
        /// How many there are.
        experts: usize,
    },
    /// The element type is one that no DeepSeek V4 tensor has.
    #[error(
        "{}: tensor `{tensor}` is {dtype}; a DeepSeek V4 tensor is F32, BF16, F16, F8_E4M3, F8_E8M0, I8, U8, I32 or \
         I64: convert it to one of these", .dir.display()
    )]
    UnsupportedDType {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type as the file spells it.
        dtype: safetensors::Dtype,
    },
    /// The element type is not one that this tensor may have.
    #[error(
        "{}: tensor `{tensor}` is {got}; it must be {allowed}: \
         config.json's dtypes and quantization_config do not belong to these files", .dir.display()
    )]
    WrongDType {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
        /// The types it may have.
        allowed: &'static str,
        /// The type it has.
        got: FileDType,
    },
    /// The shape is not the one that the configuration gives.
    #[error(
        "{}: tensor `{tensor}` is {got:?}; the configuration makes it {expected:?}: \
         config.json does not belong to these files", .dir.display()
    )]
    WrongShape {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape by the configuration, as stored.
        expected: Vec<u64>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// Scales do not cover their weight.
    #[error(
        "{}: scales `{tensor}` are {got:?}; weight `{weight}` is {dtype}, one scale to {}, and needs {expected:?}: \
         weight and scales are of different conversions", .dir.display(), coverage(*dtype)
    )]
    WrongScaleShape {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The scale tensor.
        tensor: String,
        /// The weight.
        weight: String,
        /// The weight's element type.
        dtype: FileDType,
        /// The shape that the weight needs.
        expected: [u64; 2],
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A stored id does not fit the type it is read into.
    #[error("{}: tensor `{tensor}`: element {index} is {got}, no 32-bit id; the table is damaged", .dir.display())]
    IdRange {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which element, counted in row-major order.
        index: usize,
        /// Its value.
        got: i64,
    },
    /// Several tensors do not fit the configuration.
    #[error("{}: {} tensors do not fit the configuration:{}", .dir.display(), .count, first(errors, *count))]
    Several {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// How many.
        count: usize,
        /// The first of them, in the order of the inventory.
        errors: Vec<CheckpointError>,
    },
}

/// The names under which a tensor was looked for, where they tell the reader more than its own.
fn also(tensor: &str, sought: &[String]) -> String {
    match sought {
        [] => " (the transformers layout has no such tensor)".to_owned(),
        [one] if one == tensor => String::new(),
        names => format!(" (looked for as {})", names.join(", ")),
    }
}

/// What one scale of a weight stored as `dtype` covers.
fn coverage(dtype: FileDType) -> &'static str {
    if dtype == FileDType::F8E4M3 { "a block of weight_block_size" } else { "32 columns of a row" }
}

/// As many of the errors as still help; a wrong configuration fails thousands of tensors in the same way.
fn first(errors: &[CheckpointError], count: usize) -> String {
    let mut text: String = errors.iter().map(|e| format!("\n  {e}")).collect();
    if count > errors.len() {
        text += &format!("\n  ... and {} more", count - errors.len());
    }
    text
}
