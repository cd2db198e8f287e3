//! NVIDIA-class GPUs through wgpu on Vulkan.
//!
//! An operation becomes a plan: kernels of [`anychip_shaders`], what is bound to each, and how many workgroups run. Plans
//! are made without a driver and are what [`Device::supports`] answers from; a stream turns them into commands and submits
//! these when somebody waits.

mod adapter;
mod copies;
mod device;
mod dispatch;
mod event;
mod kernels;
mod memory;
mod ops;
mod pipelines;
mod plan;
mod shared;
mod staging;
mod stream;
#[cfg(test)]
mod tests;

// What the tests call this crate by, inside of it and beside it.
#[cfg(test)]
extern crate self as anychip_wgpu;

pub use adapter::MEND;
pub use device::{descriptions, open};
pub use kernels::{KernelUse, kernels_of};
pub use plan::Limits;
