//! Every case of anychip's catalogue on the first Vulkan adapter, one test each.

mod common;

use anychip_conformance::Tests;
use anychip_wgpu::Limits;
use std::process::ExitCode;

fn main() -> ExitCode {
    if !common::driver() {
        return ExitCode::SUCCESS;
    }
    match std::env::var("ANYCHIP_WGPU_AS").as_deref() {
        Ok("gpu") => {
            let gpu = |limits| Limits { is_cpu: false, subgroup: 0, ..limits };
            Tests::of(move || anychip_wgpu::open_as(None, gpu)).main()
        }
        _ => Tests::of(|| anychip_wgpu::open(None)).main(),
    }
}
