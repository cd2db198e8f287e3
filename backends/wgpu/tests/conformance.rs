//! Every case of anychip's catalogue on the first Vulkan adapter, one test each.

mod common;

use anychip_conformance::Tests;
use std::process::ExitCode;

fn main() -> ExitCode {
    match common::driver() {
        true => Tests::of(|| anychip_wgpu::open(None)).main(),
        false => ExitCode::SUCCESS,
    }
}
