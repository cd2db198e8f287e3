//! The device: operations of the contract as launches of kernels.

use crate::isa::Elem;
use crate::kernel::{Kernel, Program};
use crate::machine::{Arch, Profile, ProfileError};
use crate::ops;
use crate::sim::{Gm, Hazards, Machine, Options, Report, Timing};
use anychip_core::host::{HostDevice, Kernels, total_memory};
use anychip_core::ops::OpKind;
use anychip_core::{Clock, Device, Error, Numerics, Op, Result, Support, Tensor, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The profile that `ascend` means.
pub const DEFAULT_PROFILE: &str = "950dt";

/// Opens a simulated NPU: `ascend` for the default profile, `ascend:PROFILE` for another. Memory is the host's.
///
/// # Errors
/// [`ProfileError::Unknown`], with the names that there are.
pub fn open(profile: Option<&str>) -> Result<Box<dyn Device>, ProfileError> {
    let name = profile.map_or_else(|| "ascend".to_owned(), |profile| format!("ascend:{profile}"));
    let profile = Profile::open(profile.unwrap_or(DEFAULT_PROFILE))?;
    Ok(open_profile(&name, profile, Options::checked().timed()))
}

/// A launch of a device that only computes time.
#[derive(Debug)]
pub struct Launch {
    /// How long it takes.
    pub timing: Timing,
    /// What its cores do, where traces are kept.
    pub programs: Vec<Program>,
}

/// The launches of a device that only computes time.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    launches: Arc<Mutex<Vec<Launch>>>,
    traces: bool,
}

impl Watch {
    /// Takes the launches since it was asked last.
    pub fn take(&self) -> Vec<Launch> {
        std::mem::take(&mut self.launches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The launch of a kernel; one that is wrong has no time.
    fn look(&self, machine: &Machine, kernel: &dyn Kernel, gm: &Gm<'_>) -> Report {
        let (report, programs) = if self.traces {
            let cores = 0..kernel.cores();
            let programs = cores.map(|core| Program::record(machine.profile(), kernel, gm, core)).collect::<Vec<_>>();
            (machine.trace(&programs, gm), programs)
        } else {
            (machine.time(kernel, gm), Vec::new())
        };
        if let (Some(timing), None) = (&report.timing, report.hazards.errors().next()) {
            let launch = Launch { timing: timing.clone(), programs };
            self.launches.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
        }
        report
    }
}

/// Opens a machine that computes no values, only how long launches take. What kernels go by (lists, offsets) is read; all
/// other operands may hold anything, so that they take no memory of the host's until they are written. A kernel that is wrong
/// by what [`Machine::time`] looks at is an error. With `traces` the programs and the time of each instruction are kept as
/// well.
pub fn open_timed(profile: Profile, traces: bool) -> (Box<dyn Device>, Watch) {
    let name = format!("ascend:{}", profile.name);
    let watch = Watch { traces, ..Watch::default() };
    let (description, limit) = (profile.title.clone(), u64::MAX / 2);
    let npu = Npu { watch: Some(watch.clone()), ..Npu::new(&name, profile, Options::time_alone()) };
    (Box::new(HostDevice::open(&name, &description, limit, npu)), watch)
}

/// Opens a machine of one's own under a name. Without the time of launches its clock stands still.
pub fn open_profile(name: &str, profile: Profile, options: Options) -> Box<dyn Device> {
    let description = format!("{}, simulated; silicon not used; profile {}", profile.title, profile.hash());
    let limit = total_memory().unwrap_or(u64::MAX / 2);
    let npu = Npu::new(name, profile, options);
    Box::new(HostDevice::open(name, &description, limit, npu))
}

/// A machine as operations see it.
#[derive(Debug)]
pub(crate) struct Npu {
    name: String,
    machine: Machine,
    options: Options,
    /// Simulated time of all launches so far.
    nanos: AtomicU64,
    /// Who is told of each launch's time.
    watch: Option<Watch>,
}

impl Npu {
    fn new(name: &str, profile: Profile, options: Options) -> Npu {
        Npu { name: name.into(), machine: Machine::new(profile), options, nanos: AtomicU64::new(0), watch: None }
    }

    /// The machine's profile.
    pub(crate) fn profile(&self) -> &Profile {
        self.machine.profile()
    }

    /// Whether it is a 950.
    pub(crate) fn is_950(&self) -> bool {
        self.profile().arch == Arch::V3510
    }

    /// Cores for so many pieces of work, of which each core takes two at a time in its vector halves.
    pub(crate) fn vector_cores(&self, pieces: usize) -> usize {
        pieces.div_ceil(2).clamp(1, self.profile().figures.cube_cores as usize)
    }

    /// Runs a kernel.
    ///
    /// # Errors
    /// [`Error::Device`] with the first hazards of a kernel that is wrong: a fault of this crate, not of its caller.
    pub(crate) fn launch(&self, op: &'static str, kernel: &dyn Kernel, gm: &Gm<'_>) -> Result<()> {
        let report = match &self.watch {
            Some(watch) => watch.look(&self.machine, kernel, gm),
            None => self.machine.launch(kernel, gm, self.options),
        };
        if let Some(timing) = &report.timing {
            self.nanos.fetch_add((timing.us * 1e3).round() as u64, Ordering::Relaxed);
        }
        self.sound(op, &report.hazards)
    }

    fn sound(&self, op: &'static str, hazards: &Hazards) -> Result<()> {
        let wrong: Vec<String> = hazards.errors().take(3).map(ToString::to_string).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::Device {
            device: self.name.clone(),
            cause: format!("the kernel of `{op}` is wrong: {}", wrong.join("; ")),
        })
    }

    /// Runs a kernel that makes lists which later kernels go by: its values are computed also where only time is asked for.
    ///
    /// # Errors
    /// Those of [`launch`](Npu::launch).
    pub(crate) fn launch_lists(&self, op: &'static str, kernel: &dyn Kernel, gm: &Gm<'_>) -> Result<()> {
        self.launch(op, kernel, gm)?;
        if self.watch.is_some() {
            return self.sound(op, &self.machine.launch(kernel, gm, Options::functional()).hazards);
        }
        Ok(())
    }
}

/// What a tensor's elements are to the machine.
pub(crate) fn elem(tensor: &Tensor) -> Elem {
    tensor.dtype().into()
}

/// One arm per operation, from which all three answers come: whether there is a kernel, what it promises, running it.
macro_rules! kernels {
    ($($Kind:ident => $module:ident),* $(,)?) => {
        impl Kernels for Npu {
            fn supports(&self, op: &Op) -> Support {
                match op.kind() {
                    $(OpKind::$Kind(op) => ops::$module::supports(op, self),)*
                    _ => unknown(op.name()),
                }
            }

            fn numerics(&self, op: &Op) -> Numerics {
                let numerics = match op.kind() {
                    $(OpKind::$Kind(op) => ops::$module::numerics(op, self),)*
                    _ => Numerics::f32(),
                };
                Numerics { flushes_subnormals: self.is_950() || numerics.flushes_subnormals, ..numerics }
            }

            fn run(&self, op: &Op) -> Result<()> {
                // A rayon thread that waits takes up other work, which may want this device again and would wait for
                // itself. A plain thread only waits.
                if rayon::current_thread_index().is_some() {
                    let joined = std::thread::scope(|scope| scope.spawn(|| self.run_here(op)).join());
                    return joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                }
                self.run_here(op)
            }

            fn now(&self) -> Option<Timestamp> {
                Some(Timestamp { clock: Clock::Simulated, nanos: self.nanos.load(Ordering::Relaxed) })
            }
        }

        impl Npu {
            fn run_here(&self, op: &Op) -> Result<()> {
                match op.kind() {
                    $(OpKind::$Kind(op) => ops::$module::run(op, self),)*
                    _ => unknown(op.name()).require(&self.name, op.name()),
                }
            }
        }
    };
}

kernels! {
    DenseAttention => dense_attention,
    Dequantize => dequantize,
    Embed => embed,
    ExpertFfn => expert_ffn,
    ExpertGemm => expert_gemm,
    Hadamard => hadamard,
    HyperHead => hyper_head,
    HyperPost => hyper_post,
    HyperPre => hyper_pre,
    IndexScores => index_scores,
    KvCompress => kv_compress,
    KvStore => kv_store,
    Linear => linear,
    NewtonSchulz => newton_schulz,
    Quantize => quantize,
    RmsNorm => rms_norm,
    Rope => rope,
    Route => route,
    SparseAttention => sparse_attention,
    Swiglu => swiglu,
    TopK => top_k,
}

// The contract may grow before this device does.
fn unknown(op: &'static str) -> Support {
    Support::unsupported("operation", "one the device has a kernel for", op)
}
