//! Cases and rules that judge an anychip device against the oracle.
//!
//! A device is right when it keeps the contract's structure to the bit and its own declared arithmetic to the bound that
//! follows from it. There are no other tolerances: a device changes only what it declares
//! ([`Numerics`](anychip_core::Numerics)), and the report prints that.
//!
//! - [`cases`] lists the catalogue: each [`Case`] is an operation over operands that follow from its name alone, with a
//!   seed in it. The name is all it takes to run a failure again, on any device and machine.
//! - Cases `device/...` are of the device itself: memory, streams, events, recordings, refusals. [`when_lost`] and
//!   [`outlived`] judge what no case can bring about.
//! - [`run`] runs a [`Selection`] on a device, [`run_cases`] cases of your own. The device computes first; only then the
//!   oracle computes what is right.
//! - Rule R0, structure: operands lie between guard bands, which stay whole as all inputs do; outputs start as NaN and are
//!   written; NaN and infinities are where the oracle has them; integers, codes, scales and pages are equal.
//! - Rule R2, the bound: `|got - want| <= u |want| + bound + smallest step` for each element, with `u` the unit roundoff of
//!   the output's type and `bound` from [`anychip_reference::judge`].
//! - Rule R3, rows: the errors of each row together, by what is typical of the declared arithmetic
//!   ([`anychip_reference::typical`]), and as many too large as too small.
//! - Rule R1, exact cases: sums and copies that no rounding touches are the correctly rounded value, which also shows
//!   whether an accumulator is as wide as declared.
//! - Rules R4 and R5, two runs of the device: other rows around one, pages elsewhere, scaled inputs, run after run. Bits
//!   are owed as far as the declared [`Determinism`](anychip_core::Determinism) goes.
//! - A [`Report`] tells which cases passed, failed, are unsupported or ran on another device
//!   ([`WithFallback`](anychip_core::WithFallback)), by operation and by the formats of its operands. A run that executed
//!   nothing has not passed.
//! - [`check`] says of a report in JSON, on a machine that had no part in it, whether all of it follows from its results;
//!   [`CheckedReport::run_again`] runs its cases there and compares.
//!
//! # Example
//! A new backend, written in full: memory, ten methods, and then its first operation.
//! ```
//! use anychip_conformance::{Outcome, Selection, run};
//! use anychip_core::ops::{OpKind, RmsNorm, Rounding};
//! use anychip_core::{
//!     Buffer, Clock, DType, Device, DeviceId, DeviceInfo, Error, Event, EventState, Memory, Op, Result, Stream, Support,
//!     Tensor, Timestamp,
//! };
//! use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
//! use std::time::Instant;
//!
//! /// An allocation. A real device keeps a handle or an address here and frees it in `Drop`.
//! struct Block(Mutex<Vec<u8>>);
//! impl Memory for Block {}
//!
//! struct Toy {
//!     id: DeviceId,
//!     opened: Instant,
//! }
//!
//! impl Device for Toy {
//!     fn info(&self) -> DeviceInfo {
//!         let mut info = DeviceInfo::new(self.id, "toy", "host memory, one thread");
//!         info.max_allocation = 1 << 30;
//!         info.asynchronous = false; // work runs within the call that queues it
//!         info
//!     }
//!
//!     fn allocate(&self, bytes: u64) -> Result<Buffer> {
//!         let info = self.info();
//!         if bytes > info.max_allocation {
//!             let (requested, available) = (bytes, info.max_allocation);
//!             return Err(Error::OutOfMemory { device: info.name, requested, available });
//!         }
//!         Ok(Buffer::new(self.id, bytes, Box::new(Block(Mutex::new(vec![0; bytes as usize])))))
//!     }
//!
//!     fn open_stream(&self) -> Result<Box<dyn Stream>> {
//!         Ok(Box::new(Queue { info: self.info(), opened: self.opened }))
//!     }
//!
//!     // Of the ten methods this is none: by default nothing is supported. It grows with the kernels.
//!     fn supports(&self, op: &Op) -> Support {
//!         supports(op)
//!     }
//! }
//!
//! fn supports(op: &Op) -> Support {
//!     match op.kind() {
//!         OpKind::RmsNorm(norm) if norm.weight.is_some() => Support::unsupported("weight", "absent", "a weight"),
//!         OpKind::RmsNorm(norm) if norm.rounding != Rounding::None => Support::unsupported("rounding", "none", "bf16"),
//!         OpKind::RmsNorm(norm) => match [norm.x.dtype(), norm.out.dtype()] {
//!             [DType::F32, DType::F32] => Support::Native,
//!             [x, out] => Support::unsupported("types of x and out", "f32", format!("{x} and {out}")),
//!         },
//!         _ => Support::unsupported("operation", "rms_norm", op.name()),
//!     }
//! }
//!
//! /// A stream without a queue.
//! struct Queue {
//!     info: DeviceInfo,
//!     opened: Instant,
//! }
//!
//! impl Stream for Queue {
//!     fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
//!         self.info.check_tensor(to, bytes.len())?;
//!         block(to)?[range(to)].copy_from_slice(bytes);
//!         Ok(())
//!     }
//!
//!     fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
//!         self.info.check_tensor(from, bytes.len())?;
//!         bytes.copy_from_slice(&block(from)?[range(from)]);
//!         Ok(())
//!     }
//!
//!     fn enqueue(&mut self, op: &Op) -> Result<()> {
//!         self.info.check_op(op)?;
//!         supports(op).require(&self.info.name, op.name())?;
//!         match op.kind() {
//!             OpKind::RmsNorm(norm) => rms_norm(norm),
//!             _ => Ok(()), // not supported, so not reached
//!         }
//!     }
//!
//!     fn synchronize(&mut self) -> Result<()> {
//!         Ok(())
//!     }
//!
//!     fn mark(&mut self) -> Result<Event> {
//!         let nanos = self.opened.elapsed().as_nanos() as u64;
//!         Ok(Event::new(self.info.id, Arc::new(Done(Timestamp { clock: Clock::Host, nanos }))))
//!     }
//!
//!     fn wait(&mut self, event: &Event) -> Result<()> {
//!         self.info.check_event(event)
//!     }
//! }
//!
//! struct Done(Timestamp);
//!
//! impl EventState for Done {
//!     fn done_at(&self) -> Result<Option<Timestamp>> {
//!         Ok(Some(self.0))
//!     }
//! }
//!
//! fn block(t: &Tensor) -> Result<MutexGuard<'_, Vec<u8>>> {
//!     let foreign = || Error::Foreign { device: "toy".into(), what: "a tensor" };
//!     let block: &Block = t.buffer().memory().ok_or_else(foreign)?;
//!     Ok(block.0.lock().unwrap_or_else(PoisonError::into_inner))
//! }
//!
//! /// A tensor is a part of its buffer.
//! fn range(t: &Tensor) -> std::ops::Range<usize> {
//!     t.offset() as usize..(t.offset() + t.bytes()) as usize
//! }
//!
//! /// The kernel. `op` was checked when it was built: shapes fit, and `out` is in a buffer of its own.
//! fn rms_norm(op: &RmsNorm) -> Result<()> {
//!     let bytes = block(&op.x)?[range(&op.x)].to_vec();
//!     let x: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
//!     let mut out = Vec::with_capacity(bytes.len());
//!     for row in x.chunks(op.x.size(1)) {
//!         let mean = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
//!         let factor = 1.0 / (mean + op.eps).sqrt();
//!         out.extend(row.iter().flat_map(|x| (x * factor).to_le_bytes()));
//!     }
//!     block(&op.out)?[range(&op.out)].copy_from_slice(&out);
//!     Ok(())
//! }
//!
//! let device = Toy { id: DeviceId::unique(), opened: Instant::now() };
//!
//! // Its first case.
//! let case = "rms_norm/plain/f32-none-f32/normal/r3-d64/seed0";
//! let first = Selection { case: Some(case.into()), ..Selection::default() };
//! let report = run(&device, &first, &mut |_| true)?;
//! assert!(report.passed, "{}", report.matrix());
//! assert_eq!(report.counts.passed, 1);
//!
//! // The whole catalogue: what is unsupported is listed with the reason, and what runs passes.
//! let mut reasons = Vec::new();
//! let report = run(&device, &Selection::default(), &mut |result| {
//!     if let Outcome::Unsupported { reason } = &result.outcome {
//!         reasons.push(format!("{}: {reason}", result.case));
//!     }
//!     true // go on
//! })?;
//! assert!(report.passed, "{}", report.matrix());
//! assert_eq!(report.counts.unsupported, reasons.len());
//! assert!(reasons.iter().any(|r| r.ends_with("weight must be absent, got a weight")));
//! # Ok::<(), anychip_conformance::SuiteError>(())
//! ```
//! From here a port grows one operation at a time. With the feature `harness`, `Tests` makes the catalogue the tests of a
//! backend's own repository; `examples/toy-backend` is one.
#![forbid(unsafe_code)]

mod builder;
mod case;
mod cases;
mod check;
mod error;
mod expected;
pub mod faults;
mod format_tag;
#[cfg(feature = "harness")]
mod harness;
mod promises;
mod random;
mod relation;
mod report;
mod rules;
mod run;

pub use builder::{Builder, HostMatrix, Stretch};
pub use case::{Case, Profile};
pub use cases::cases;
pub use check::{Checked, CheckedReport, Finding, RunAgain, check, check_file};
pub use error::SuiteError;
pub use expected::{ExpectedFailure, ExpectedFailures};
#[cfg(feature = "harness")]
pub use harness::Tests;
pub use promises::{outlived, when_lost};
pub use random::{Family, Random};
pub use report::{
    CaseResult, Counts, Failure, FormatSummary, JudgedDevice, OpSummary, Outcome, Report, Selected, State, Statement,
    Unsupported, html, junit,
};
pub use rules::bound::Nearest;
pub use rules::{Rule, judge_output};
pub use run::{Isolation, Replayed, Selection, replay, run, run_cases, run_isolated, serve};
