//! A simulated Ascend NPU, for those who have none at hand.
//!
//! - [`machine`]: profiles of real chips as data files, each figure with its unit, how far it is to be trusted and where it is
//!   from.
//! - [`layout`], [`isa`]: where the elements of a matrix lie in the chip's memories, and the instructions that move and
//!   compute them.
//! - [`kernel`]: how a kernel is written, in the manner of Ascend C.
//! - [`sim`]: runs kernels and says what is wrong with them.
#![forbid(unsafe_code)]

pub mod isa;
pub mod kernel;
pub mod layout;
pub mod machine;
pub mod sim;
