//! Every way the contract can refuse or fail, each broken rule its own variant.

use crate::{Clock, DType};
use std::fmt;

/// The contract's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong on a device, or why something was refused before it got there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation, tensor or matrix broke a rule of the contract; no device was involved.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The device has no kernel for this operation as given. [`WithFallback`](crate::WithFallback) would run it elsewhere.
    #[error("{device} does not run `{op}`: {reason}; wrap the device in a fallback to run it elsewhere")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// Name of the operation.
        op: &'static str,
        /// The rule, the limit and what was given.
        reason: Reason,
    },
    /// An allocation did not fit.
    #[error(
        "{device} is out of memory: {requested} bytes requested, {available} available; use a smaller batch or context"
    )]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Bytes asked for.
        requested: u64,
        /// Bytes that were left, as far as the device knows.
        available: u64,
    },
    /// The device is gone. Sticky: each later call on it answers the same; the process lives on and may open it again.
    #[error("{device} was lost ({cause}); its memory is gone, open the device again")]
    DeviceLost {
        /// Name of the device.
        device: String,
        /// What the driver said.
        cause: String,
    },
    /// No such device could be opened.
    #[error("cannot open device `{device}`: {cause}; {mend}")]
    Unavailable {
        /// Name that was asked for.
        device: String,
        /// What is missing.
        cause: String,
        /// What would make it available.
        mend: String,
    },
    /// A buffer, event or recording of one device was handed to another.
    #[error("{what} belongs to another device than {device}")]
    Foreign {
        /// Name of the device that was asked.
        device: String,
        /// What was handed over.
        what: &'static str,
    },
    /// Two times of different clocks were subtracted.
    #[error("a {0} time cannot be compared with a {1} time")]
    ClockMismatch(Clock, Clock),
    /// The device's own machinery failed in a way that no other variant describes.
    #[error("{device} failed: {cause}")]
    Device {
        /// Name of the device.
        device: String,
        /// What it said.
        cause: String,
    },
}

/// A broken rule of the contract, with the limit and what was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// An operand has another shape than the operation's other operands call for.
    #[error("`{op}`: {operand} must have shape {want}, got {got}")]
    WrongShape {
        /// Operation.
        op: &'static str,
        /// Operand.
        operand: &'static str,
        /// Shape called for, with the names of its sizes.
        want: String,
        /// Shape given.
        got: String,
    },
    /// An operand has an element type the operation does not take.
    #[error("`{op}`: {operand} must be {allowed}, got {got}")]
    WrongDType {
        /// Operation.
        op: &'static str,
        /// Operand.
        operand: &'static str,
        /// Types it takes.
        allowed: String,
        /// Type given.
        got: DType,
    },
    /// A parameter lies outside its range.
    #[error("`{op}`: {parameter} must be {rule}, got {got}")]
    OutOfRange {
        /// Operation.
        op: &'static str,
        /// Parameter.
        parameter: &'static str,
        /// Its range.
        rule: String,
        /// Value given.
        got: String,
    },
    /// An operand that the operation writes shares its buffer with another operand.
    #[error("`{op}`: {written} is written and shares its buffer with {other}; give the output a buffer of its own")]
    Aliased {
        /// Operation.
        op: &'static str,
        /// Operand that is written.
        written: String,
        /// The other operand in the same buffer.
        other: String,
    },
    /// Operands of one operation live on different devices.
    #[error("`{op}`: {operand} lives on another device than {first}")]
    MixedDevices {
        /// Operation.
        op: &'static str,
        /// Operand that differs.
        operand: String,
        /// First operand.
        first: String,
    },
    /// A tensor reaches past the end of its buffer.
    #[error("a tensor of {need} bytes at offset {offset} does not fit a buffer of {have} bytes")]
    OutOfBounds {
        /// Bytes of the tensor.
        need: u64,
        /// Its offset.
        offset: u64,
        /// Bytes of the buffer.
        have: u64,
    },
    /// A tensor's offset is not a multiple of its element size.
    #[error("a tensor of {dtype} cannot start at byte {offset}: offsets are multiples of {align}")]
    Misaligned {
        /// Element type.
        dtype: DType,
        /// Offset given.
        offset: u64,
        /// Alignment called for.
        align: u64,
    },
    /// A shape has too many sizes or too many elements.
    #[error("a shape takes at most 4 sizes and 2^48 elements, got {got}")]
    TooLarge {
        /// Shape given.
        got: String,
    },
    /// A matrix's scales do not have the layout that its format calls for.
    #[error("scales of {format} {rows}x{cols} ({groups} groups) must be {want}, got {got}")]
    ScaleLayout {
        /// Element format and block.
        format: String,
        /// Groups of the matrix.
        groups: usize,
        /// Rows per group.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Type and shape called for.
        want: String,
        /// Type and shape given.
        got: String,
    },
    /// A slice or reshape of a tensor that it does not contain.
    #[error("cannot take {what} of a tensor of shape {shape}")]
    BadView {
        /// The view asked for.
        what: String,
        /// The tensor's shape.
        shape: String,
    },
    /// The bytes given for a tensor are not as many as it holds.
    #[error("{got} bytes given for a tensor of {want} bytes")]
    WrongLength {
        /// Bytes of the tensor.
        want: u64,
        /// Bytes given.
        got: u64,
    },
}

/// Why a device does not run an operation: the rule, its limit, and what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The rule, in words: "head_dim", "operation", "weight format".
    pub rule: String,
    /// The limit: "at most 512", "e4m3 or bf16".
    pub limit: String,
    /// What was given.
    pub got: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}, got {}", self.rule, self.limit, self.got)
    }
}
