//! What the tests of hazards share: a launch over operands of all kinds, and what a report must say.

use anychip_ascend::isa::{Elem, Global, Tile};
use anychip_ascend::kernel::{Context, Kernel};
use anychip_ascend::machine::{Profile, Space};
use anychip_ascend::sim::{At, Code, Gm, Hazard, Options, Report, Schedule, launch};
use std::path::Path;

/// Operands of the launches: numbers that are read, an output, a state, memory of the launch's own.
pub(crate) const X: u16 = 0;
pub(crate) const OUT: u16 = 1;
pub(crate) const STATE: u16 = 2;
pub(crate) const SCRATCH: u16 = 3;
/// Bytes of each but the output.
pub(crate) const BYTES: usize = 1 << 20;

/// A launch: the machine, its cores, the bytes of its output.
pub(crate) struct Rig {
    pub(crate) profile: &'static str,
    pub(crate) cores: usize,
    pub(crate) out: usize,
}

/// The 950DT with one core and without an output.
pub(crate) const ONE: Rig = Rig { profile: "950dt", cores: 1, out: 0 };
/// The same on the 910B.
pub(crate) const OLD: Rig = Rig { profile: "910b", ..ONE };

struct Halves<C, V> {
    cores: usize,
    cube: C,
    vector: V,
}

impl<C: Fn(&mut Context<'_>) + Sync, V: Fn(&mut Context<'_>) + Sync> Kernel for Halves<C, V> {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        (self.cube)(cx);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        (self.vector)(cx);
    }
}

impl Rig {
    /// Runs what the cube half and the vector halves do, in several schedules: all must say the same.
    pub(crate) fn run(
        &self,
        cube: impl Fn(&mut Context<'_>) + Sync,
        vector: impl Fn(&mut Context<'_>) + Sync,
    ) -> Report {
        let kernel = Halves { cores: self.cores, cube, vector };
        let profile = Profile::open(self.profile).unwrap();
        let x = numbers();
        let run = |options| {
            let (mut out, mut state) = (vec![0; self.out], x.clone());
            let mut gm = Gm::default();
            assert_eq!(gm.input("x", &x), X);
            assert_eq!(gm.output("out", &mut out), OUT);
            assert_eq!(gm.state("state", &mut state), STATE);
            assert_eq!(gm.scratch("scratch", BYTES as u64), SCRATCH);
            launch(&profile, &kernel, &gm, options)
        };
        let report = run(Options::checked());
        for schedule in (0..6).map(Schedule::Adversarial).chain([Schedule::Timed]) {
            let other = run(Options::checked().scheduled(schedule));
            assert_eq!(other.hazards.codes(), report.hazards.codes(), "{schedule:?}: {}", all(&other));
        }
        let other = run(Options::functional());
        assert_eq!(alone(&other), alone(&report), "without checks: {}", all(&other));
        // Lists' numbers are values.
        let (other, without) = (run(Options::time_alone()), run(Options { values: false, ..Options::checked() }));
        assert_eq!(alone(&other), alone(&without), "time alone: {}", all(&other));
        report
    }

    /// As [`run`](Rig::run), of vector halves alone, the first only.
    pub(crate) fn vector(&self, vector: impl Fn(&mut Context<'_>) + Sync) -> Report {
        self.run(
            |_| (),
            |cx| {
                if cx.half() == 0 {
                    vector(cx)
                }
            },
        )
    }

    /// What the first vector half leaves of the state, if nothing is wrong.
    #[track_caller]
    pub(crate) fn stored(&self, vector: impl Fn(&mut Context<'_>) + Sync) -> Vec<u8> {
        self.left(
            |_| (),
            |cx| {
                if cx.half() == 0 {
                    vector(cx)
                }
            },
        )
    }

    /// What a launch leaves of the state, if nothing is wrong.
    #[track_caller]
    pub(crate) fn left(
        &self,
        cube: impl Fn(&mut Context<'_>) + Sync,
        vector: impl Fn(&mut Context<'_>) + Sync,
    ) -> Vec<u8> {
        let kernel = Halves { cores: self.cores, cube, vector };
        let x = numbers();
        let mut state = x.clone();
        let mut gm = Gm::default();
        gm.input("x", &x);
        gm.output("out", &mut []);
        gm.state("state", &mut state);
        clean(&launch(&Profile::open(self.profile).unwrap(), &kernel, &gm, Options::checked()));
        drop(gm);
        state
    }

    /// As [`run`](Rig::run), of the cube half alone.
    pub(crate) fn cube(&self, cube: impl Fn(&mut Context<'_>) + Sync) -> Report {
        self.run(cube, |_| ())
    }
}

/// What operands begin with: f16 of 1, 1.5 and 2 in turn.
pub(crate) fn numbers() -> Vec<u8> {
    (0..BYTES / 2).flat_map(|i| [0, 0x3C + (i % 3) as u8]).collect()
}

/// The kinds that are found whatever a launch is run for: those of single instructions, and of allocations.
const ALONE: [Code; 6] =
    [Code::OutOfBounds, Code::Misaligned, Code::Overlap, Code::NoPath, Code::WrongLayout, Code::ProductLimit];

fn alone(report: &Report) -> Vec<Code> {
    report.hazards.codes().into_iter().filter(|code| ALONE.contains(code)).collect()
}

/// What was found, as it is printed.
pub(crate) fn all(report: &Report) -> String {
    report.hazards.iter().map(|(hazard, count)| format!("{count} x {hazard}\n")).collect()
}

/// Nothing is wrong.
#[track_caller]
pub(crate) fn clean(report: &Report) {
    assert!(report.hazards.codes().is_empty(), "{}", all(report));
}

/// Of all kinds there is only this. Gives the first that was found.
#[track_caller]
pub(crate) fn only(report: &Report, code: Code) -> Hazard {
    assert_eq!(report.hazards.codes(), [code], "{}", all(report));
    let (hazard, _) = report.hazards.iter().next().unwrap();
    let text = hazard.to_string();
    assert!(text.starts_with(code.id()) && text.ends_with(code.mend()), "{text}");
    assert!(text.contains(&format!("{}:{}", hazard.at.file, hazard.at.line)), "{text}");
    hazard.clone()
}

/// The report names the line of the kernel that has these words.
#[track_caller]
pub(crate) fn line_has(at: &At, words: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(at.file);
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().nth(at.line as usize - 1).unwrap_or_default();
    assert!(line.contains(words), "{at}: the line is {line:?}, not with {words:?}");
}

/// A hazard of two instructions, by the words of their lines, and of some bytes.
#[track_caller]
pub(crate) fn pair(hazard: &Hazard, [with, at]: [&str; 2], space: &str, bytes: [u64; 2]) {
    let other = hazard.with.as_ref().unwrap();
    line_has(other, with);
    line_has(&hazard.at, at);
    touches(hazard, space, bytes);
    let text = hazard.to_string();
    assert!(text.contains(&format!("{} and {other}", hazard.at)), "{text}");
}

/// A hazard of some bytes.
#[track_caller]
pub(crate) fn touches(hazard: &Hazard, space: &str, [from, to]: [u64; 2]) {
    let text = hazard.to_string();
    assert!(text.contains(&format!("{space} bytes {from}..{to}")), "{text}");
}

/// Row `r` of rows of f32.
pub(crate) fn row(region: u16, r: u64, cols: u32) -> Global {
    Global::new(region, r * 4 * u64::from(cols), Elem::F32, 1, cols)
}

/// A row of f32 in UB.
pub(crate) fn ub(at: u32, cols: u32) -> Tile {
    Tile::rows_of(Space::Ub, at, Elem::F32, 1, cols)
}
