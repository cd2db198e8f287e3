//! The simulator: runs kernels on a machine that a profile describes.
//!
//! A launch records what each core does, then runs it: values, checks and time each or all of them. Cores run on host threads;
//! results do not depend on how many there are.

mod check;
mod execute;
mod global;
mod hazard;
mod launch;
mod memory;
mod order;
mod time;
mod tolerance;

pub use global::{Contents, Gm};
pub use hazard::{At, Bytes, Code, Hazard, Hazards};
pub use launch::{Machine, Options, Report, launch};
pub use memory::{alignment, capacity};
pub use order::Schedule;
pub use time::{Arrow, Span, Timing};
pub use tolerance::{Expect, SLACK};
