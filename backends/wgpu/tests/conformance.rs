//! Every case of anychip's catalogue on the first Vulkan adapter, one test each.

use anychip_conformance::Tests;
use std::process::ExitCode;

fn main() -> ExitCode {
    if anychip_wgpu::descriptions().is_empty() {
        if std::env::var("ANYCHIP_REQUIRE").is_ok_and(|devices| devices.split(',').any(|device| device == "wgpu")) {
            eprintln!("error: ANYCHIP_REQUIRE names wgpu, and there is no Vulkan driver; {}", anychip_wgpu::MEND);
            return ExitCode::FAILURE;
        }
        println!("SKIPPED: no Vulkan driver was found; {}", anychip_wgpu::MEND);
        return ExitCode::SUCCESS;
    }
    match std::env::var("ANYCHIP_WGPU_AS").as_deref() {
        Ok("gpu") => {
            let gpu = |limits| anychip_wgpu::Limits { is_cpu: false, subgroup: 0, ..limits };
            Tests::of(move || anychip_wgpu::open_as(None, gpu)).main()
        }
        _ => Tests::of(|| anychip_wgpu::open(None)).main(),
    }
}
