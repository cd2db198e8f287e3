//! Every case of anychip's catalogue on the simulated 950DT, one test each.

use anychip_conformance::Tests;
use anychip_core::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let open = || {
        anychip_ascend::open(None).map_err(|error| Error::Device { device: "ascend".into(), cause: error.to_string() })
    };
    Tests::of(open).main()
}
