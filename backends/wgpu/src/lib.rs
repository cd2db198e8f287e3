//! NVIDIA-class GPUs through wgpu on Vulkan.
//!
//! An operation becomes a plan: kernels of [`anychip_shaders`], what is bound to each, and how many workgroups run. Plans
//! are made without a driver, and [`supports`](anychip_core::Device::supports) answers from them; a stream turns them into
//! commands and submits these when somebody waits.

mod adapter;
mod copies;
mod device;
mod dispatch;
mod event;
mod limits;
mod memory;
mod ops;
mod pipelines;
mod plan;
mod product;
mod shared;
mod staging;
mod stream;
#[cfg(test)]
mod tests;

// What the tests call this crate by, inside of it and beside it.
#[cfg(test)]
extern crate self as anychip_wgpu;

pub use adapter::MEND;
pub use device::{descriptions, open, open_as};
pub use limits::Limits;
pub use plan::{KernelUse, kernels_of};
