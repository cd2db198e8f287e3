//! Every specialisation of the kernels that the catalogue needs, without a driver: parsed, validated and written as SPIR-V by
//! naga, and compared with what this backend binds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_conformance::Profile;
use anychip_core::Op;
use anychip_core::ops::NAMES;
use anychip_wgpu::{KernelUse, Limits, kernels_of};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, StorageAccess, TypeInner};
use std::collections::{BTreeSet, HashSet};

/// What adapters are like: a CPU with and without subgroups, a GPU with and without cooperative matrices, and one whose
/// bindings are so small that operands take several.
fn profiles() -> [(&'static str, Limits); 5] {
    let cpu = Limits {
        binding_bytes: 128 << 20,
        bindings: 32,
        alignment: 32,
        workgroup_bytes: 32 << 10,
        workgroup_size: 1024,
        subgroup: 8,
        cooperative: 0,
        is_cpu: true,
    };
    let gpu = Limits {
        binding_bytes: (2 << 30) - 4,
        bindings: 1 << 20,
        workgroup_bytes: 48 << 10,
        subgroup: 32,
        is_cpu: false,
        ..cpu
    };
    [
        ("cpu", cpu),
        ("cpu without subgroups", Limits { subgroup: 0, ..cpu }),
        ("gpu", gpu),
        ("gpu with cooperative matrices", Limits { cooperative: 16, ..gpu }),
        ("small bindings", Limits { binding_bytes: 4096, bindings: 1 << 20, workgroup_bytes: 32 << 10, ..gpu }),
    ]
}

/// The operations of the quick profile, over memory of the oracle's.
fn operations() -> Vec<Op> {
    let oracle = anychip_reference::open(u64::MAX / 2);
    let cases = anychip_conformance::cases(Profile::Quick, 0);
    cases.iter().filter_map(|case| case.op(&*oracle).expect("the catalogue builds")).collect()
}

#[test]
fn every_specialisation_is_valid_and_binds_what_is_bound() {
    let operations = operations();
    for (profile, limits) in profiles() {
        let (mut seen, mut with_kernels) = (HashSet::new(), BTreeSet::new());
        for op in &operations {
            let uses = kernels_of(op, &limits).unwrap_or_else(|why| panic!("{profile}: {}: {why}", op.name()));
            if !uses.is_empty() {
                with_kernels.insert(op.name());
            }
            for used in uses {
                if seen.insert(used.spec.clone()) {
                    check(profile, &limits, &used);
                }
            }
        }
        println!("{profile}: {} specialisations", seen.len());
        assert_eq!(with_kernels.len(), NAMES.len(), "{profile}: {with_kernels:?}");
    }
}

fn check(profile: &str, limits: &Limits, used: &KernelUse) {
    let what = format!("{profile}: {}", used.spec.kernel);
    let text = used.spec.source().expect("a kernel of that name");
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{what}: {}", e.emit_to_string(&text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{what}: {}", e.emit_to_string(&text)));
    naga::back::spv::write_vec(&module, &info, &Default::default(), None).unwrap_or_else(|e| panic!("{what}: {e}"));

    let mut bound: Vec<(u32, bool)> = Vec::new();
    for (_, global) in module.global_variables.iter() {
        if let (AddressSpace::Storage { access }, Some(binding)) = (global.space, global.binding) {
            bound.push((binding.binding, access.contains(StorageAccess::STORE)));
        }
        if global.space == AddressSpace::Immediate {
            let TypeInner::Struct { ref members, .. } = module.types[global.ty].inner else { panic!("{what}: Params") };
            assert_eq!(members.len(), used.params, "{what}: words of Params and of the plan");
            assert!(members.iter().enumerate().all(|(i, member)| member.offset as usize == 4 * i), "{what}");
            assert!(used.params <= 32, "{what}: 128 bytes of immediates are what every driver has");
        }
    }
    bound.sort_unstable();
    let bindings = used.spec.bindings();
    let want: Vec<(u32, bool)> = bindings.iter().enumerate().map(|(i, b)| (i as u32, b.writes)).collect();
    assert_eq!(bound, want, "{what}: bindings");
    assert!(want.len() <= limits.bindings as usize, "{what}: {} bindings", want.len());

    let entry = &module.entry_points[0];
    let size: u32 = entry.workgroup_size.iter().product();
    assert!(size <= limits.workgroup_size, "{what}: {size} invocations");
    let uses = info.get_entry_point(0);
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let shared = module
        .global_variables
        .iter()
        .filter(|(handle, global)| global.space == AddressSpace::WorkGroup && !uses[*handle].is_empty());
    let bytes: u32 = shared.map(|(_, global)| layouter[global.ty].size).sum();
    assert!(bytes <= limits.workgroup_bytes, "{what}: {bytes} bytes of workgroup memory");
}
