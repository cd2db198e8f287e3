//! Every file of WGSL is a kernel, a part of one, or a variant of a part. That their texts are valid in every specialisation is
//! tested where operations become kernels, in the backend.
#![allow(clippy::unwrap_used)]

use anychip_shaders::{KERNELS, PRELUDE, VARIANTS};
use std::fs;
use std::path::Path;

fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"));
    texts.map(|path| (path.file_stem().unwrap().to_str().unwrap().into(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn every_file_is_used() {
    for (name, text) in files("") {
        assert!(KERNELS.iter().any(|kernel| kernel.name == name && kernel.text == text), "{name} is no kernel");
    }
    for (name, text) in files("prelude") {
        assert!(PRELUDE.contains(&&*text), "{name} is not in the prelude");
    }
    for (name, text) in files("parts") {
        let shared = KERNELS.iter().any(|kernel| kernel.parts.contains(&&*text));
        let variant = VARIANTS.iter().any(|(variant, of_variant)| *variant == name && *of_variant == text);
        assert!(shared || variant, "{name} is part of no kernel");
    }
}

#[test]
fn a_kernel_opens_with_what_it_computes() {
    for kernel in KERNELS {
        let first = kernel.text.lines().find(|line| !line.is_empty()).unwrap();
        assert!(first.starts_with("// "), "{}: {first}", kernel.name);
    }
}
