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
    Tests::of(|| anychip_wgpu::open(None)).main()
}
