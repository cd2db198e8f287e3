//! Every kernel that the catalogue comes to, for five kinds of adapters: parsed, validated and written as SPIR-V, and its
//! bindings, immediates and workgroup compared with what the plan says of them. No driver is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use anychip_conformance::{Profile, cases};
use anychip_core::{
    Buffer, DType, Device, DeviceId, DeviceInfo, Error, Event, EventState, Op, Operation, Reason, Result, Stream,
    Tensor, Timestamp, ops,
};
use anychip_shaders::Spec;
use anychip_wgpu::{KernelUse, Limits, kernels_of};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const IN_SOFTWARE: Limits = Limits {
    binding_bytes: 128 << 20,
    buffer_bytes: (2 << 30) - 1,
    bindings: 32,
    alignment: 32,
    workgroup_bytes: 32 << 10,
    workgroup_size: 1024,
    subgroup: 8,
    cooperative: 0,
    is_cpu: true,
};
const NVIDIA: Limits = Limits {
    binding_bytes: (2 << 30) - 4,
    bindings: 1 << 20,
    workgroup_bytes: 48 << 10,
    subgroup: 32,
    cooperative: 16,
    is_cpu: false,
    ..IN_SOFTWARE
};
/// A CPU with and without subgroups, a GPU with and without cooperative matrices, and one whose bindings are so small that most
/// operands take several, and large ones more than it has.
const ADAPTERS: [(&str, Limits); 5] = [
    ("cpu", IN_SOFTWARE),
    ("cpu without subgroups", Limits { subgroup: 0, ..IN_SOFTWARE }),
    ("gpu", NVIDIA),
    ("gpu without matrices", Limits { cooperative: 0, ..NVIDIA }),
    (
        "small bindings",
        Limits { binding_bytes: 4 << 10, bindings: 128, workgroup_bytes: 32 << 10, cooperative: 0, ..NVIDIA },
    ),
];

/// A device that has no memory and does nothing: operations over it can be built, and looked at.
struct Nothing;

impl Device for Nothing {
    fn info(&self) -> DeviceInfo {
        let mut info = DeviceInfo::new(DeviceId::unique(), "nothing", "a device of no memory");
        info.alignment = 256;
        info
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        Ok(Buffer::phantom(bytes))
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        Ok(Box::new(Nothing))
    }
}

impl Stream for Nothing {
    fn write(&mut self, _: &Tensor, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn read(&mut self, _: &Tensor, _: &mut [u8]) -> Result<()> {
        Err(Error::Device { device: "nothing".into(), cause: "there is nothing to read".into() })
    }

    fn enqueue(&mut self, _: &Op) -> Result<()> {
        Ok(())
    }

    fn synchronize(&mut self) -> Result<()> {
        Ok(())
    }

    fn mark(&mut self) -> Result<Event> {
        Ok(Event::new(DeviceId::unique(), Arc::new(Nothing)))
    }

    fn wait(&mut self, _: &Event) -> Result<()> {
        Ok(())
    }
}

impl EventState for Nothing {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }
}

/// The operations of the catalogue. Cases of a relation are over the operations of others, and operands beyond 2 GiB would
/// have to be filled.
fn operations() -> Vec<(String, Op)> {
    let others = ["/r4-", "/r5-", "beyond_2gib"];
    let all = cases(Profile::Full, 0).into_iter();
    let all: Vec<_> = all.filter(|case| !others.iter().any(|other| case.name.contains(other))).collect();
    on_all_cores(&all, |case| Some((case.name.clone(), case.op(&Nothing).unwrap()?)))
}

/// What `f` gives, for each of `all` in order, computed on as many threads as there are cores.
fn on_all_cores<T: Sync, U: Send>(all: &[T], f: impl Fn(&T) -> Option<U> + Sync) -> Vec<U> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match all.get(at) {
                Some(one) => made.extend(f(one).map(|one| (at, one))),
                None => return made,
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut made: Vec<(usize, U)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    made.sort_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, one)| one).collect()
}

/// What is wrong with a kernel, as text of one problem each.
fn problems(spec: &Spec, immediates: usize, limits: &Limits) -> Vec<String> {
    let Some(source) = spec.source() else { return vec!["there is no such kernel".into()] };
    let module = match naga::front::wgsl::parse_str(&source) {
        Ok(module) => module,
        Err(error) => return vec![error.emit_to_string(&source)],
    };
    // What wgpu asks for with the features that the backend asks for; half floats in `unpack2x16float` every Vulkan has.
    let mut capabilities = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, limits.subgroup > 0);
    capabilities.set(Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX, limits.cooperative > 0);
    let info = match Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
        Ok(info) => info,
        Err(error) => return vec![error.emit_to_string(&source)],
    };
    let mut found = Vec::new();
    found.extend(written(&module, &info));
    found.extend(bindings(&module, spec));
    found.extend(sizes(&module, &info, immediates, limits));
    found
}

/// Why it cannot be written as SPIR-V.
fn written(module: &Module, info: &ModuleInfo) -> Option<String> {
    let pipeline = naga::back::spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    let made = naga::back::spv::write_vec(module, info, &Default::default(), Some(&pipeline));
    made.err().map(|error| format!("SPIR-V: {error}"))
}

/// Bindings that the text declares otherwise than the specialisation says.
fn bindings(module: &Module, spec: &Spec) -> Option<String> {
    let declared: BTreeMap<(u32, u32), bool> = module
        .global_variables
        .iter()
        .filter_map(|(_, global)| {
            let binding = global.binding.as_ref()?;
            let writes = match global.space {
                AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
                _ => panic!("{:?} has a binding and is no storage", global.name),
            };
            Some(((binding.group, binding.binding), writes))
        })
        .collect();
    let said: BTreeMap<(u32, u32), bool> =
        spec.bindings().iter().enumerate().map(|(number, binding)| ((0, number as u32), binding.writes)).collect();
    (declared != said).then(|| format!("the text declares the bindings {declared:?}, the specialisation {said:?}"))
}

/// Immediates of another size, and more of a workgroup than the adapter has.
fn sizes(module: &Module, info: &ModuleInfo, immediates: usize, limits: &Limits) -> Vec<String> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let of_entry = info.get_entry_point(0);
    let declared =
        |space: AddressSpace| module.global_variables.iter().filter(move |(_, global)| global.space == space);
    let [entry] = &module.entry_points[..] else { return vec!["one entry point is wanted".into()] };
    let mut found = Vec::new();
    let bytes: u32 = declared(AddressSpace::Immediate).map(|(_, global)| layouter[global.ty].size).sum();
    if bytes as usize != 4 * immediates || immediates > 32 {
        found.push(format!("{immediates} words of immediates, at most 32, for a struct of {bytes} bytes"));
    }
    let used = declared(AddressSpace::WorkGroup).filter(|(handle, _)| !of_entry[*handle].is_empty());
    // As WebGPU adds them up. No layer below looks at it but the driver, which need not.
    let bytes: u32 = used.map(|(_, global)| layouter[global.ty].size.next_multiple_of(16)).sum();
    let most = limits.workgroup_bytes;
    if bytes > most {
        found.push(format!("{bytes} bytes of workgroup memory, of {most}"));
    }
    let [x, y, z] = entry.workgroup_size;
    let most = limits.workgroup_size;
    if x == 0 || x * y * z > most || z > 64 {
        found.push(format!("a workgroup of {x} x {y} x {z} invocations, of {most}"));
    }
    found
}

/// A specialisation, its words of immediates, and a case that comes to it.
type Uses = HashMap<Spec, (usize, String)>;

/// Adds what an operation comes to; whether it is run at all.
fn collect(uses: &mut Uses, name: &str, op: &Op, limits: &Limits) -> Option<usize> {
    let kernels = kernels_of(op, limits).ok()?;
    let count = kernels.len();
    for KernelUse { spec, params, .. } in kernels {
        assert!(spec.bindings().len() <= limits.bindings as usize, "{name}: {} has too many bindings", spec.kernel);
        let (known, other) = uses.entry(spec.clone()).or_insert_with(|| (params, name.into()));
        assert_eq!(*known, params, "immediates of `{}` in {name} and {other}", spec.kernel);
    }
    Some(count)
}

#[test]
fn every_specialisation_is_what_its_plan_says() {
    let operations = operations();
    assert!(operations.len() > 300, "{}", operations.len());
    let mut failed = Vec::new();
    for (adapter, limits) in ADAPTERS {
        let (mut uses, mut ran, mut refused) = (Uses::new(), BTreeMap::<&str, usize>::new(), 0);
        for (name, op) in &operations {
            match collect(&mut uses, name, op, &limits) {
                Some(dispatches) => *ran.entry(op.name()).or_default() += dispatches,
                None => refused += 1,
            }
        }
        let all: Vec<_> = uses.into_iter().collect();
        let found = on_all_cores(&all, |(spec, (immediates, case))| {
            let found = problems(spec, *immediates, &limits);
            (!found.is_empty()).then(|| format!("{adapter}: `{}` of {case}:\n{}", spec.kernel, found.join("\n")))
        });
        failed.extend(found);
        let of_nothing = ran.iter().filter(|(_, dispatches)| **dispatches == 0);
        failed.extend(of_nothing.map(|(op, _)| format!("{adapter}: no case of `{op}` comes to a kernel")));
        let without: BTreeSet<&str> = ops::NAMES.iter().copied().filter(|op| !ran.contains_key(op)).collect();
        println!(
            "{adapter}: {} specialisations of {} operations; {refused} cases refused; no kernel for {without:?}",
            all.len(),
            ran.len()
        );
    }
    assert!(failed.is_empty(), "{} kernels are wrong:\n{}", failed.len(), failed.join("\n"));
}

/// What takes more turns than drivers in software make is refused there, with the rule, and runs on a GPU.
#[test]
fn too_many_turns_are_refused_in_software_alone() {
    let rows_of = |width: usize| {
        let tensor = || Nothing.tensor(DType::F32, &[1, width]).unwrap();
        let (x, out) = (tensor(), tensor());
        ops::RmsNorm { x, weight: None, eps: 1e-6, rounding: ops::Rounding::None, out }.build().unwrap()
    };
    // A workgroup of 64 goes over a row once element by element, adds up, and goes over it in pairs.
    let most = (65535 - 9) / 3 * 128;
    assert!(kernels_of(&rows_of(most), &IN_SOFTWARE).is_ok());
    let refused = Reason {
        rule: "loop turns of an invocation of `rms_norm`".into(),
        limit: "at most 65535 on a CPU adapter".into(),
        got: "65538".into(),
    };
    let longer = rows_of(most + 65);
    assert_eq!(kernels_of(&longer, &IN_SOFTWARE).unwrap_err(), refused);
    assert_eq!(kernels_of(&longer, &Limits { is_cpu: false, ..IN_SOFTWARE }).unwrap().len(), 1);
}

/// The checks find what they are for.
#[test]
fn what_is_wrong_is_told() {
    let case = cases(Profile::Quick, 0).into_iter().find(|case| case.op_name == "embed").unwrap();
    let op = case.op(&Nothing).unwrap().unwrap();
    let used = kernels_of(&op, &NVIDIA).unwrap().remove(0);
    let told = |spec: &Spec, immediates: usize, limits: &Limits| problems(spec, immediates, limits).join("; ");
    assert_eq!(told(&used.spec, used.params, &NVIDIA), "");
    assert!(told(&used.spec, used.params + 1, &NVIDIA).contains("words of immediates"));
    let narrow = Limits { workgroup_size: 32, ..NVIDIA };
    assert!(told(&used.spec, used.params, &narrow).contains("of 32"));
    let mut open = used.spec.clone();
    open.constants.clear();
    assert!(told(&open, used.params, &NVIDIA).contains("WG"));
    let none = Spec { kernel: "none", ..used.spec };
    assert_eq!(told(&none, used.params, &NVIDIA), "there is no such kernel");
}
