//! A simulated Ascend NPU, for those who have none at hand.
//!
//! What there is so far: [`machine`], profiles of real chips as data files, each figure with its unit, how far it is to be
//! trusted and where it is from; and [`layout`], where the elements of a matrix lie in the chip's memories.
#![forbid(unsafe_code)]

pub mod layout;
pub mod machine;
