//! A simulated Ascend NPU, for those who have none at hand.
//!
//! - [`machine`]: profiles of real chips as data files, each figure with its unit, how far it is to be trusted and where it is
//!   from.
//! - [`layout`], [`isa`]: where the elements of a matrix lie in the chip's memories, and the instructions that move and
//!   compute them.
//! - [`kernel`]: how a kernel is written, in the manner of Ascend C.
//! - [`sim`]: runs kernels and says what is wrong with them.
//! - [`open`]: the device, with kernels for operations of the contract.
#![forbid(unsafe_code)]

pub mod bench;
mod device;
pub mod isa;
pub mod kernel;
pub mod layout;
pub mod machine;
mod ops;
pub mod sim;
pub mod trace;

pub use device::{DEFAULT_PROFILE, Launch, Watch, open, open_profile, open_timed};
