//! Kernels with one mistake in their order: each is reported, or does no harm in any schedule.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "mutations/kernels.rs"]
mod kernels;

use anychip_ascend::isa::{Barrier, Body, Instr, Unit, UnitFlag};
use anychip_ascend::kernel::{Kernel, Program};
use anychip_ascend::machine::Profile;
use anychip_ascend::sim::{Gm, Machine, Options, Report, Schedule};
use kernels::{Coupled, Doubled, Everything, Exchange, OUT, SCRATCH, ThroughMemory, Tiled, ToVectors, W, X};
use rayon::ThreadPoolBuilder;
use std::fmt::Debug;

/// Mistakes that are tried of each kernel, and schedules in which one that is not reported must do no harm.
const MUTANTS: u64 = 200;
const SCHEDULES: u64 = 50;
/// Bytes of operands.
const BYTES: usize = 1 << 14;

/// A kernel with what it is run on.
struct Bench<'k> {
    machine: Machine,
    kernel: &'k dyn Kernel,
    out: usize,
    x: Vec<u8>,
}

impl Bench<'_> {
    /// Numbers are small integers in halves, and as pairs f32 that are no NaN: no two rows are alike.
    fn new<'k>(profile: &str, kernel: &'k dyn Kernel, out: usize) -> Bench<'k> {
        let mut draw = Draw(7);
        let number = |_| half::f16::from_f32(draw.below(17) as f32 - 8.0).to_le_bytes();
        let x = (0..BYTES / 2).flat_map(number).collect();
        Bench { machine: Machine::new(Profile::open(profile).unwrap()), kernel, out, x }
    }

    fn with<T>(&self, f: impl FnOnce(&Gm<'_>) -> T) -> (T, Vec<u8>) {
        let mut out = vec![0; self.out];
        let mut gm = Gm::default();
        assert_eq!(gm.input("x", &self.x), X);
        assert_eq!(gm.input("w", &self.x[512..]), W);
        assert_eq!(gm.output("out", &mut out), OUT);
        assert_eq!(gm.scratch("scratch", BYTES as u64), SCRATCH);
        let got = f(&gm);
        drop(gm);
        (got, out)
    }

    fn programs(&self) -> Vec<Program> {
        let record = |gm: &Gm<'_>| {
            let one = |core| Program::record(self.machine.profile(), self.kernel, gm, core);
            (0..self.kernel.cores()).map(one).collect()
        };
        self.with(record).0
    }

    fn run(&self, programs: &[Program], options: Options) -> (Report, Vec<u8>) {
        self.with(|gm| self.machine.run(programs, gm, options))
    }
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

fn is_order(instr: &Instr) -> bool {
    use Body::{Barrier, CrossSet, CrossWait, SetFlag, WaitFlag};
    matches!(instr.body, SetFlag(..) | WaitFlag(..) | Barrier(_) | CrossSet(..) | CrossWait(..))
}

/// The unit flag of a product or a transfer that has one.
fn unit_flag(body: &mut Body) -> Option<&mut UnitFlag> {
    let flag = match body {
        Body::Mmad(mmad) => &mut mmad.unit_flag,
        Body::Fix(fix) => &mut fix.unit_flag,
        _ => return None,
    };
    (*flag != UnitFlag::Off).then_some(flag)
}

/// Makes one mistake; gives what it was.
fn mutate(programs: &mut [Program], draw: &mut Draw) -> String {
    let core = draw.below(programs.len());
    let with_order = Unit::ALL.map(|unit| programs[core].unit(unit).iter().any(is_order));
    let units: Vec<Unit> =
        Unit::ALL.into_iter().zip(with_order).filter(|(_, has)| *has).map(|(unit, _)| unit).collect();
    let unit = units[draw.below(units.len())];
    let list = &mut programs[core].units[unit as usize];
    let places: Vec<usize> = (0..list.len()).filter(|&at| is_order(&list[at])).collect();
    let coupled: Vec<usize> = (0..list.len()).filter(|&at| unit_flag(&mut list[at].body).is_some()).collect();
    if !coupled.is_empty() && draw.below(4) == 0 {
        let at = coupled[draw.below(coupled.len())];
        let others = [UnitFlag::Off, UnitFlag::Keep, UnitFlag::Last];
        let Some(flag) = unit_flag(&mut list[at].body) else { return String::new() };
        let others: Vec<UnitFlag> = others.into_iter().filter(|other| other != flag).collect();
        *flag = others[draw.below(2)];
        return format!("unit flag {flag:?}: #{at} of core {core} {unit}");
    }
    let at = places[draw.below(places.len())];
    let what = format!("{:?} #{at} of core {core} {unit} ({})", list[at].body, list[at]);
    match draw.below(4) {
        0 => {
            list.remove(at);
            format!("without {what}")
        }
        1 => {
            let instr = list.remove(at);
            let (low, high) = (at.saturating_sub(5), (at + 5).min(list.len()));
            let to = low + draw.below(high - low + 1);
            list.insert(to, instr);
            format!("moved to {to}: {what}")
        }
        2 => {
            let other = places[draw.below(places.len())];
            list.swap(at, other);
            format!("swapped with {other}: {what}")
        }
        _ => {
            let more = 1 + draw.below(5) as u8;
            match &mut list[at].body {
                Body::SetFlag(_, _, id) | Body::WaitFlag(_, _, id) => *id = (*id + more) % 6,
                Body::CrossSet(_, _, id) | Body::CrossWait(_, _, id) => *id = (*id + more) % 8,
                Body::Barrier(barrier) => *barrier = Barrier::Pipe(unit.pipes()[usize::from(more) % 4]),
                _ => {}
            }
            format!("number plus {more}: {what}")
        }
    }
}

/// Tries mistakes of a kernel.
fn survive(profile: &str, kernel: &dyn Kernel, out: usize) {
    let bench = Bench::new(profile, kernel, out);
    let right = bench.programs();
    let (report, expected) = bench.run(&right, Options::checked());
    assert_eq!(report.hazards.errors().next(), None);
    let (mut caught, mut harmless, mut escaped) = (0, 0, Vec::new());
    for seed in 0..MUTANTS {
        let mut wrong = bench.programs();
        let what = mutate(&mut wrong, &mut Draw(seed));
        let (report, _) = bench.run(&wrong, Options::checked());
        if report.hazards.errors().next().is_some() {
            caught += 1;
            continue;
        }
        let all: usize = wrong.iter().flat_map(|program| &program.units).map(Vec::len).sum();
        let harm = (0..SCHEDULES).find_map(|seed| {
            let schedule = Schedule::Adversarial(seed);
            // What one schedule finds all must find.
            if seed < 4 {
                let (report, _) = bench.run(&wrong, Options::checked().scheduled(schedule));
                if let Some(hazard) = report.hazards.errors().next() {
                    return Some(format!("schedule {seed} alone says {hazard}"));
                }
            }
            let (report, got) = bench.run(&wrong, Options::functional().scheduled(schedule));
            let stuck = report.instructions != all as u64;
            (stuck || got != expected)
                .then(|| format!("schedule {seed}: stuck {stuck}, other values {}", got != expected))
        });
        match harm {
            None => harmless += 1,
            Some(harm) => escaped.push(format!("{seed}: {what}: {harm}")),
        }
    }
    println!("{profile}: of {MUTANTS} mistakes {caught} are reported, {harmless} do no harm");
    assert!(escaped.is_empty(), "{} escaped:\n{}", escaped.len(), escaped.join("\n"));
}

#[test]
fn of_a_double_buffered_vector_kernel() {
    survive("950dt", &Doubled, 20 * 256);
    survive("910b", &Doubled, 20 * 256);
}

#[test]
fn of_a_tiled_product() {
    survive("950dt", &Tiled, 32 * 64 * 4);
    survive("910b", &Tiled, 32 * 64 * 4);
}

#[test]
fn of_sums_that_go_to_vectors() {
    survive("950dt", &ToVectors, 5 * 1024);
}

#[test]
fn of_sums_that_go_through_memory() {
    survive("910b", &ThroughMemory, 5 * 1024);
    survive("950dt", &ThroughMemory, 5 * 1024);
}

#[test]
fn of_sums_that_unit_flags_hand_over() {
    survive("950dt", &Coupled, 5 * 1024);
}

#[test]
fn of_halves_that_exchange_rows() {
    survive("950dt", &Exchange, 512);
}

#[test]
fn of_a_kernel_of_all_engines() {
    survive("950dt", &Everything, 2 * 1024);
}

/// A seed says all: values and reports are those of any number of host threads.
#[test]
fn results_do_not_depend_on_host_threads() {
    fn same<T: PartialEq + Debug + Send>(f: impl Fn() -> T + Sync) {
        let on = |threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f);
        let one = on(1);
        [2, 3, 8].into_iter().for_each(|threads| assert_eq!(on(threads), one, "{threads} threads"));
    }
    for (kernel, out) in [(&Doubled as &dyn Kernel, 20 * 256), (&Everything, 2 * 1024)] {
        for schedule in [Schedule::InOrder, Schedule::Timed, Schedule::Adversarial(1), Schedule::Adversarial(2)] {
            same(|| {
                let bench = Bench::new("950dt", kernel, out);
                let (report, got) = bench.run(&bench.programs(), Options::checked().scheduled(schedule));
                (report.hazards, report.instructions, got)
            });
        }
        // Of kernels with a mistake as well, whatever they compute.
        for seed in 0..20 {
            same(|| {
                let bench = Bench::new("950dt", kernel, out);
                let mut wrong = bench.programs();
                mutate(&mut wrong, &mut Draw(seed));
                let options = Options::checked().scheduled(Schedule::Adversarial(seed));
                let (report, _) = bench.run(&wrong, options);
                (report.hazards, report.instructions)
            });
        }
    }
}
