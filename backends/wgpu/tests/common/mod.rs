//! Whether there is a driver to test on: one answer for all of this crate's tests.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub)]

/// Whether there is a Vulkan driver. Where there is none the test says that it is skipped, and fails where
/// `ANYCHIP_REQUIRE`, a list of devices with commas between, names wgpu.
pub fn driver() -> bool {
    if !anychip_wgpu::descriptions().is_empty() {
        return true;
    }
    let mend = anychip_wgpu::MEND;
    if std::env::var("ANYCHIP_REQUIRE").is_ok_and(|devices| devices.split(',').any(|device| device == "wgpu")) {
        panic!("ANYCHIP_REQUIRE names wgpu, and no Vulkan driver was found; {mend}");
    }
    println!("SKIPPED: no Vulkan driver was found; {mend}");
    false
}
