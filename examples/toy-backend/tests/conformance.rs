//! Every case of anychip's catalogue, one test each: `cargo test --test conformance -- swiglu`.

use anychip_conformance::Tests;
use std::process::ExitCode;

fn main() -> ExitCode {
    // What the toy runs itself. Everything else falls back to the CPU, and is listed as ignored with that reason.
    let native = ["embed/", "swiglu/", "rms_norm/plain/", "rms_norm/weight/", "rms_norm/eps/", "rms_norm/one/"];
    Tests::of(|| Ok(toy_backend::open(anychip_cpu::open()))).native(native).main()
}
