//! The sources as they lie in the folder: each is put to use, and what kernels share stands on its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use anychip_shaders::{KERNELS, PRELUDE};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Name and text of each `.wgsl` of a folder below `src`; of none that is not there.
fn sources(folder: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let paths = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let wgsl = paths.filter(|path| path.extension().is_some_and(|end| end == "wgsl"));
    wgsl.map(|path| (path.file_stem().unwrap().to_str().unwrap().into(), fs::read_to_string(&path).unwrap())).collect()
}

/// What naga says of a text before a kernel that does nothing.
fn parse(text: &str) -> Result<(), naga::front::wgsl::ParseError> {
    let nothing = "@compute @workgroup_size(WG) fn main() { }";
    naga::front::wgsl::parse_str(&format!("const WG: u32 = 64u;\n{text}\n{nothing}")).map(drop)
}

#[test]
fn every_file_is_registered() {
    let files: BTreeSet<String> = sources("").into_iter().map(|(name, _)| name).collect();
    let registered: BTreeSet<String> = KERNELS.iter().map(|kernel| kernel.name.into()).collect();
    assert_eq!(files, registered, "`KERNELS` and the files of src");
    assert_eq!(registered.len(), KERNELS.len(), "a name stands twice");
    for (name, text) in sources("prelude") {
        assert!(PRELUDE.contains(&&*text), "prelude/{name}.wgsl is not in `PRELUDE`");
    }
    for (name, text) in sources("parts") {
        assert!(KERNELS.iter().any(|kernel| kernel.parts.contains(&&*text)), "no kernel has parts/{name}.wgsl");
    }
}

#[test]
fn every_kernel_says_what_it_computes() {
    for kernel in KERNELS {
        assert!(kernel.text.trim_start().starts_with("//"), "{}.wgsl begins without its formula", kernel.name);
        assert_eq!(kernel.text.matches("@compute").count(), 1, "{}.wgsl has one entry point", kernel.name);
    }
}

#[test]
fn the_prelude_parses_alone() {
    let text = PRELUDE.concat();
    parse(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
}

/// A part may name what only its kernels have; anything else that is wrong with it is its own.
#[test]
fn parts_parse_but_for_what_is_their_kernels() {
    for (name, part) in sources("parts") {
        let text = PRELUDE.concat() + &part;
        if let Err(error) = parse(&text) {
            let of_a_kernel = error.message().starts_with("no definition in scope for identifier");
            assert!(of_a_kernel, "parts/{name}.wgsl: {}", error.emit_to_string(&text));
        }
    }
}
