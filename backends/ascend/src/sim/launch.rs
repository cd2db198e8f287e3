//! A launch: all cores of a kernel, from recording to the report.

use super::check::{Checker, Touches, at_exit, broken, shared, warnings};
use super::execute::Executor;
use super::global::Gm;
use super::hazard::{At, Bytes, Code, Hazard, Hazards};
use super::memory::Memories;
use super::order::{Draw, Next, Order, Schedule, sources};
use super::time::{Keep, Timeline, Timing};
use crate::isa::{Blocks, Body, Instr, Mode, Pipe, Place, Unit};
use crate::kernel::{Kernel, Program};
use crate::machine::Profile;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// What a launch is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether values are computed.
    pub values: bool,
    /// Whether hazards are looked for. Rules of single instructions (E1, E2, E8 to E10) are kept in any case, and so is what
    /// recording finds: an instruction that breaks one does not run, and the report says so, as it does of what never gets
    /// to run.
    pub hazards: bool,
    /// Whether the cycle model is asked how long it takes.
    pub time: bool,
    /// Who goes first where several may.
    pub schedule: Schedule,
}

impl Options {
    /// Values and hazards.
    pub const fn checked() -> Options {
        Options { values: true, hazards: true, time: false, schedule: Schedule::InOrder }
    }

    /// Values alone.
    pub const fn functional() -> Options {
        Options { hazards: false, ..Options::checked() }
    }

    /// Time alone: nothing is computed, and nothing is read but what kernels go by. See [`Machine::time`].
    pub const fn time_alone() -> Options {
        Options { values: false, hazards: false, time: true, schedule: Schedule::InOrder }
    }

    /// With the time that it takes.
    pub const fn timed(self) -> Options {
        Options { time: true, ..self }
    }

    /// In another order.
    pub const fn scheduled(self, schedule: Schedule) -> Options {
        Options { schedule, ..self }
    }
}

/// What came of a launch.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong with the kernel.
    pub hazards: Hazards,
    /// Instructions that ran, of all cores.
    pub instructions: u64,
    /// How long it takes, where that was asked for.
    pub timing: Option<Timing>,
}

/// A machine that kernels are launched on.
#[derive(Debug)]
pub struct Machine {
    profile: Profile,
    /// Memories of cores that no launch uses now.
    idle: Mutex<Vec<Memories>>,
}

impl Machine {
    /// A machine as a profile describes it.
    pub fn new(profile: Profile) -> Machine {
        Machine { profile, idle: Mutex::new(Vec::new()) }
    }

    /// Its profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    fn memories(&self) -> Memories {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Memories::new(&self.profile))
    }

    /// Runs a kernel.
    pub fn launch(&self, kernel: &(impl Kernel + ?Sized), gm: &Gm<'_>, options: Options) -> Report {
        if options == Options::time_alone() {
            return self.time(kernel, gm);
        }
        let cores = 0..kernel.cores();
        let record = |core| Program::record(&self.profile, kernel, gm, core);
        // A single core needs no other host thread to be woken.
        let programs: Vec<Program> =
            if cores.len() == 1 { vec![record(0)] } else { cores.into_par_iter().map(record).collect() };
        self.run(&programs, gm, options)
    }

    /// How long a kernel takes, by the cycle model. Nothing is computed: operands may be phantoms.
    ///
    /// Of hazards it finds what recording does (memories and flags that are used up) and the rules of single instructions,
    /// of all cores: E1 to E3, E8 to E10, and E6 of flags that there are not. What goes by other instructions or by values
    /// (order, pairs of flags, undefined bytes) is not looked at: [`Options::checked`] does that.
    pub fn time(&self, kernel: &(impl Kernel + ?Sized), gm: &Gm<'_>) -> Report {
        // Operands of instructions are given up core by core: large launches have millions.
        let one = |core| {
            let program = Program::record(&self.profile, kernel, gm, core);
            (Timeline::steps(&self.profile, &program), self.unsound(&program, gm, core))
        };
        let cores: Vec<_> = (0..kernel.cores()).into_par_iter().map(one).collect();
        let (steps, found): (Vec<_>, Vec<Hazards>) = cores.into_iter().unzip();
        self.report(&Timeline(steps), found, Keep::default())
    }

    /// How long programs take, one for each core, and when each instruction ran. Hazards are those of [`time`](Machine::time).
    pub fn trace(&self, programs: &[Program], gm: &Gm<'_>) -> Report {
        let found = programs.par_iter().enumerate().map(|(core, program)| self.unsound(program, gm, core));
        self.report(&self.timeline(programs), found.collect(), Keep { spans: true, order: false })
    }

    fn report(&self, timeline: &Timeline, found: Vec<Hazards>, keep: Keep) -> Report {
        let mut report = Report { timing: Some(timeline.time(&self.profile, keep).0), ..Report::default() };
        found.into_iter().for_each(|hazards| report.hazards.merge(hazards));
        report
    }

    /// What is wrong with a core's program whatever the others do: what recording found, and rules of single instructions.
    fn unsound(&self, program: &Program, gm: &Gm<'_>, core: usize) -> Hazards {
        let mut hazards = program.hazards.clone();
        for unit in Unit::ALL {
            for (index, instr) in program.unit(unit).iter().enumerate() {
                keeps_rules(
                    &self.profile,
                    gm,
                    At::new(instr.name(), core, unit, index, instr.line),
                    instr,
                    &mut hazards,
                );
            }
        }
        hazards
    }

    fn timeline(&self, programs: &[Program]) -> Timeline {
        Timeline(programs.iter().map(|program| Timeline::steps(&self.profile, program)).collect())
    }

    /// Runs programs, one for each core.
    pub fn run(&self, programs: &[Program], gm: &Gm<'_>, options: Options) -> Report {
        let mut memories: Vec<Memories> = programs.iter().map(|_| self.memories()).collect();
        let planned = options.schedule == Schedule::Timed;
        let timed = (planned || options.time)
            .then(|| self.timeline(programs).time(&self.profile, Keep { spans: false, order: planned }));
        let (timing, mut given) = timed.map_or((None, Vec::new()), |(timing, given)| (Some(timing), given));
        given.iter_mut().for_each(|order| order.reverse());
        let mut given = given.into_iter();
        let cores = programs.iter().zip(&mut memories).enumerate();
        let mut cores: Vec<Core<'_, '_>> = cores
            .map(|(core, (program, memories))| Core {
                given: given.next(),
                ..Core::new(&self.profile, gm, core, program, memories, options)
            })
            .collect();
        // A barrier of all cores is passed when all others have come to it.
        loop {
            let sets: Vec<Vec<(Unit, u8, u32)>> = cores.iter().map(Core::everywhere).collect();
            let sets = |core: usize, unit: Unit, id: u8| least(&sets, core, unit, id);
            let before: usize = cores.iter().map(|core| core.order.left()).sum();
            match &mut cores[..] {
                [core] => core.go(&sets),
                cores => cores.par_iter_mut().for_each(|core| core.go(&sets)),
            }
            // What memory adds is there when all cores have come to a barrier, whoever was first: in the cores' order.
            cores.iter_mut().filter_map(|core| core.executor.as_mut()).for_each(Executor::settle);
            let after: usize = cores.iter().map(|core| core.order.left()).sum();
            if after == 0 || after == before {
                break;
            }
        }
        let timing = timing.filter(|_| options.time);
        let mut report = Report { timing, ..Report::default() };
        let mut touches = Vec::new();
        for core in cores {
            let (hazards, done, touched) = core.finish();
            report.hazards.merge(hazards);
            report.instructions += done;
            touches.push(touched);
        }
        if options.hazards {
            shared(programs, gm, &touches, &mut report.hazards);
            warnings(&self.profile, gm, programs, &mut report.hazards);
            if options.values {
                unwritten(programs, gm, &mut report.hazards);
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).append(&mut memories);
        report
    }
}

/// Runs a kernel on a machine that is made for it.
pub fn launch(profile: &Profile, kernel: &(impl Kernel + ?Sized), gm: &Gm<'_>, options: Options) -> Report {
    Machine::new(profile.clone()).launch(kernel, gm, options)
}

/// How often the slowest of all units of a kind has set a flag of all cores. A core knows its own better.
fn least(sets: &[Vec<(Unit, u8, u32)>], core: usize, unit: Unit, id: u8) -> u32 {
    let kinds = sources(unit, Mode::Everywhere);
    let count = |all: &Vec<(Unit, u8, u32)>, unit: Unit| {
        all.iter().find(|(u, i, _)| (*u, *i) == (unit, id)).map_or(0, |(.., count)| *count)
    };
    let others = sets.iter().enumerate().filter(|(other, _)| *other != core);
    others.flat_map(|(_, all)| kinds.iter().map(move |unit| count(all, *unit))).min().unwrap_or(u32::MAX)
}

/// A core that is under way.
struct Core<'a, 'g> {
    core: usize,
    program: &'a Program,
    order: Order<'a>,
    checker: Option<Checker<'a, 'g>>,
    executor: Option<Executor<'a, 'g>>,
    /// What recording found, and rules that instructions broke where no checker keeps them.
    hazards: Hazards,
    profile: &'a Profile,
    gm: &'a Gm<'g>,
    draw: Option<Draw>,
    /// What ran last, where it held back nothing but its own engine.
    last: Option<Next>,
    /// What runs, the last first, where the schedule says all of it.
    given: Option<Vec<Next>>,
}

type Sets<'s> = dyn Fn(usize, Unit, u8) -> u32 + Sync + 's;

impl<'a, 'g> Core<'a, 'g> {
    fn new(
        profile: &'a Profile,
        gm: &'a Gm<'g>,
        core: usize,
        program: &'a Program,
        memories: &'a mut Memories,
        options: Options,
    ) -> Core<'a, 'g> {
        let draw = match options.schedule {
            Schedule::Adversarial(seed) => Some(Draw::new(seed, core)),
            _ => None,
        };
        Core {
            core,
            program,
            order: Order::new(program),
            checker: options.hazards.then(|| Checker::new(profile, gm, core)),
            executor: options.values.then(|| Executor::new(profile, gm, core, memories)),
            hazards: program.hazards.clone(),
            profile,
            gm,
            draw,
            last: None,
            given: None,
        }
    }

    /// Its own sets of flags of all cores.
    fn everywhere(&self) -> Vec<(Unit, u8, u32)> {
        let ids = |unit| (0..16u8).map(move |id| (unit, id));
        let all = Unit::ALL.into_iter().flat_map(ids);
        all.map(|(unit, id)| (unit, id, self.order.crossings.sets(unit, Mode::Everywhere, id))).collect()
    }

    /// Runs until it is through, or waits for other cores, or for ever.
    fn go(&mut self, sets: &Sets<'_>) {
        loop {
            let next = match (&mut self.given, &self.draw) {
                (Some(_), _) => self.planned(sets),
                (None, None) => self.first(sets),
                (None, Some(_)) => self.any(sets),
            };
            let Some(next) = next else { return };
            self.step(next);
        }
    }

    /// What the plan has next. At a barrier of all cores it waits for those that the host has not run so far. What is of an
    /// engine that the unit has not stays undone, as in any other schedule.
    fn planned(&mut self, sets: &Sets<'_>) -> Option<Next> {
        let mut next = *self.given.as_ref()?.last()?;
        while !next.unit.pipes().contains(&next.pipe) {
            self.given.as_mut()?.pop();
            next = *self.given.as_ref()?.last()?;
        }
        let body = &self.program.unit(next.unit)[next.index].body;
        if matches!(body, Body::CrossWait(_, Mode::Everywhere, _)) {
            self.ready(next.unit, next.pipe, sets)?;
        }
        self.given.as_mut()?.pop()
    }

    fn ready(&self, unit: Unit, pipe: Pipe, sets: &Sets<'_>) -> Option<Next> {
        let kinds = sources(unit, Mode::Everywhere);
        let everywhere = |unit: Unit, id: u8| {
            let own =
                kinds.iter().map(|unit| self.order.crossings.sets(*unit, Mode::Everywhere, id)).min().unwrap_or(0);
            own.min(sets(self.core, unit, id))
        };
        self.order.ready(unit, pipe, &everywhere)
    }

    /// The first engine that may go on. Where the one that went last only computed or moved, none before it may.
    fn first(&self, sets: &Sets<'_>) -> Option<Next> {
        if let Some(last) = self.last
            && let Some(next) = self.ready(last.unit, last.pipe, sets)
        {
            return Some(next);
        }
        engines().find_map(|(unit, pipe)| self.ready(unit, pipe, sets))
    }

    fn any(&mut self, sets: &Sets<'_>) -> Option<Next> {
        let all: Vec<Next> = engines().filter_map(|(unit, pipe)| self.ready(unit, pipe, sets)).collect();
        let draw = self.draw.as_mut().map_or(0, |draw| draw.below(all.len()));
        all.get(draw).copied()
    }

    fn step(&mut self, next: Next) {
        let instr = &self.program.unit(next.unit)[next.index];
        let sound = match &mut self.checker {
            Some(checker) => checker.observe(self.program, next),
            None => {
                let at = At::new(instr.name(), self.core, next.unit, next.index, instr.line);
                keeps_rules(self.profile, self.gm, at, instr, &mut self.hazards)
            }
        };
        if let (true, Some(executor)) = (sound, &mut self.executor) {
            executor.run(next, instr);
        }
        self.order.complete(next);
        self.last = (next.pipe != Pipe::S && !instr.is_order()).then_some(next);
    }

    fn finish(self) -> (Hazards, u64, Touches) {
        let mut hazards = self.hazards;
        let all: usize = self.program.units.iter().map(Vec::len).sum();
        let done = (all - self.order.left()) as u64;
        let mut touches = Touches::default();
        if let Some(checker) = self.checker {
            let (found, touched) = checker.finish(self.program, &self.order);
            hazards.merge(found);
            touches = touched;
        } else if self.order.left() > 0 {
            for (Next { unit, index, .. }, code, detail) in at_exit(self.program, &self.order) {
                let instr = &self.program.unit(unit)[index];
                let at = At::new(instr.name(), self.core, unit, index, instr.line);
                hazards.add(Hazard { code, at, with: None, bytes: None, detail });
            }
        }
        if let Some(executor) = self.executor {
            hazards.merge(executor.hazards);
        }
        (hazards, done, touches)
    }
}

/// Whether an instruction breaks no rule of its own. Those that it breaks are added.
fn keeps_rules(profile: &Profile, gm: &Gm<'_>, at: At, instr: &Instr, hazards: &mut Hazards) -> bool {
    let wrong = broken(profile, gm, at.unit, instr);
    let sound = wrong.is_empty();
    for (code, bytes, detail) in wrong {
        hazards.add(Hazard { code, at: at.clone(), with: None, bytes, detail });
    }
    sound
}

/// All engines of a core.
fn engines() -> impl Iterator<Item = (Unit, Pipe)> {
    Unit::ALL.into_iter().flat_map(|unit| unit.pipes().iter().map(move |pipe| (unit, *pipe)))
}

/// Bytes of outputs that hold nothing (E15).
fn unwritten(programs: &[Program], gm: &Gm<'_>, hazards: &mut Hazards) {
    for (region, first) in gm.unwritten() {
        let writes = |body: &Body| match body {
            Body::StoreGm(_, to, _) | Body::StoreL1Gm(_, to) | Body::ScalarStore(to, _) => to.region == region,
            Body::Fix(fix) => matches!(fix.to, crate::isa::FixTo::Gm(to) if to.region == region),
            _ => false,
        };
        let mut last = None;
        for (core, program) in programs.iter().enumerate() {
            for unit in Unit::ALL {
                let found = program.unit(unit).iter().enumerate().rfind(|(_, instr)| writes(&instr.body));
                last = found.map(|(index, instr)| At::new(instr.name(), core, unit, index, instr.line)).or(last);
            }
        }
        let nobody = || At { name: "END", core: 0, unit: Unit::Aic, index: 0, file: "launch", line: 0 };
        let blocks = Blocks { at: first, len: 1, count: 1, pitch: 0 };
        hazards.add(Hazard {
            code: Code::Unwritten,
            at: last.unwrap_or_else(nobody),
            with: None,
            bytes: Some(Bytes::of(Place::Gm(region), &blocks, &|region| gm.name(region).into())),
            detail: format!("byte {first} of {} is the first", gm.bytes(region)),
        });
    }
}
