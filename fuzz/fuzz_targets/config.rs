//! Reads arbitrary text as `config.json`; what is accepted must be valid.
#![no_main]

use std::path::Path;

use anychip_runtime::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::from_json(text, Path::new("config.json")) {
        config.validate().expect("what the parser returns is valid");
    }
});
