//! What a kernel's half of a core records.

use super::arena::Arena;
use crate::isa::{
    Access, Barrier, Body, CHAINED, Elem, Fix, FixMode, FixTo, Global, Init, Instr, Mmad, Mode, Pipe, Place, Tile,
    Unit, UnitFlag, Vector,
};
use crate::layout::Layout;
use crate::machine::{Arch, Profile, Space};
use crate::sim::{At, Bytes, Code, Contents, Hazard, Hazards, alignment, capacity};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::Location;

/// Flags that a pair of engines may use; two more are the framework's.
pub(crate) const FLAGS: u8 = 6;

/// Records the instructions of one unit of one core.
///
/// Methods are named after what they record. None checks its operands: what is wrong with an instruction is found, with its
/// line, when the launch is simulated.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) profile: &'a Profile,
    pub(super) gm: &'a dyn Contents,
    core: usize,
    cores: usize,
    unit: Unit,
    instrs: Vec<Instr>,
    arenas: BTreeMap<Space, Arena>,
    /// Flags in use, a bit each, by the engines that set and wait.
    flags: BTreeMap<(Pipe, Pipe), u8>,
    hazards: Hazards,
    pub(super) fused: Option<Vec<Vector>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        gm: &'a dyn Contents,
        core: usize,
        cores: usize,
        unit: Unit,
    ) -> Context<'a> {
        Context {
            profile,
            gm,
            core,
            cores,
            unit,
            instrs: Vec::new(),
            arenas: BTreeMap::new(),
            flags: BTreeMap::new(),
            hazards: Hazards::default(),
            fused: None,
        }
    }

    pub(super) fn finish(mut self) -> (Vec<Instr>, Hazards) {
        self.beside_threads();
        (self.instrs, self.hazards)
    }

    /// Threads have the end of UB as their cache, for as long as the kernel runs.
    fn beside_threads(&mut self) {
        let limit = self.profile.figures.ub_threads as u64;
        let Some(threads) = self.instrs.iter().find(|instr| matches!(instr.body, Body::SimtGather { .. })) else {
            return;
        };
        let mut beyond = None;
        for instr in &self.instrs {
            instr.accesses(self.unit, &mut |Access { place, blocks, .. }| {
                let ub = place == Place::Local(Space::Ub, self.unit);
                if beyond.is_none() && ub && blocks.count > 0 && blocks.end() > limit {
                    beyond = Some((instr, blocks));
                }
            });
        }
        if let Some((instr, blocks)) = beyond {
            let range = Bytes { space: Space::Ub.to_string(), from: blocks.at.max(limit), to: blocks.end() };
            let detail = format!(
                "the cache of threads begins at byte {limit}; {} at {}:{} goes to byte {}",
                instr.name(),
                instr.line.file(),
                instr.line.line(),
                blocks.end() - 1
            );
            let (line, name) = (threads.line, threads.name());
            self.hazard(Code::OutOfBounds, line, name, range, detail);
        }
    }

    /// The machine.
    pub fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// Whether it is a 950.
    pub fn is_950(&self) -> bool {
        self.profile.arch == Arch::V3510
    }

    /// This core's number.
    pub fn core(&self) -> usize {
        self.core
    }

    /// How many cores take part.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Which unit this is.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Which vector half this is, 0 or 1.
    pub fn half(&self) -> usize {
        usize::from(self.unit == Unit::Aiv1)
    }

    /// This unit among all of its kind: cubes, or vector halves.
    pub fn lane(&self) -> usize {
        if self.unit == Unit::Aic { self.core } else { 2 * self.core + self.half() }
    }

    /// Units of this kind.
    pub fn lanes(&self) -> usize {
        if self.unit == Unit::Aic { self.cores } else { 2 * self.cores }
    }

    /// This unit's part of so many pieces of work: adjacent ones, as many as others have or one less.
    pub fn share(&self, pieces: u64) -> Range<u64> {
        let (lane, lanes) = (self.lane() as u64, self.lanes() as u64);
        let (each, more) = (pieces / lanes, pieces % lanes);
        let start = lane * each + lane.min(more);
        start..start + each + u64::from(lane < more)
    }

    /// Records an instruction as it is.
    #[track_caller]
    pub fn push(&mut self, body: Body) {
        let instr = Instr { body, line: Location::caller() };
        self.within(&instr);
        self.instrs.push(instr);
    }

    /// A tile that begins in what was taken for it ends there as well, or it has bytes of another.
    fn within(&mut self, instr: &Instr) {
        let mut found = None;
        instr.accesses(self.unit, &mut |Access { place, blocks, .. }| {
            if let Place::Local(space, owner) = place
                && owner == self.unit
                && let Some(arena) = self.arenas.get(&space)
                && let Some(other) = arena.reaches(blocks.at, blocks.end())
            {
                found = Some((space, blocks, other));
            }
        });
        if let Some((space, blocks, (from, to, other))) = found {
            let range = Bytes { space: space.to_string(), from, to: blocks.end().min(to) };
            let detail = format!(
                "the tile goes to byte {}; {}:{} has bytes {from}..{to}",
                blocks.end(),
                other.file(),
                other.line()
            );
            self.hazard(Code::Overlap, instr.line, instr.name(), range, detail);
        }
    }

    fn hazard(
        &mut self,
        code: Code,
        line: &'static Location<'static>,
        name: &'static str,
        bytes: Bytes,
        detail: String,
    ) {
        let at = At::new(name, self.core, self.unit, self.instrs.len(), line);
        self.hazards.add(Hazard { code, at, with: None, bytes: Some(bytes), detail });
    }

    fn arena(&mut self, space: Space) -> &mut Arena {
        let profile = self.profile;
        // Tiles say their place in 32 bits.
        let most = (capacity(profile, space) as u64).min(u32::MAX.into());
        let arena = || Arena::new(most, alignment(profile, space) as u64);
        self.arenas.entry(space).or_insert_with(arena)
    }

    /// Takes bytes of a memory: the first place that is free and aligned.
    #[track_caller]
    pub fn alloc(&mut self, space: Space, bytes: u32) -> u32 {
        self.take(space, bytes.into())
    }

    #[track_caller]
    fn take(&mut self, space: Space, bytes: u64) -> u32 {
        let line = Location::caller();
        let (at, fits) = self.arena(space).take(bytes, line);
        if let Err(detail) = fits {
            let range = Bytes { space: space.to_string(), from: at, to: at.saturating_add(bytes) };
            self.hazard(Code::OutOfBounds, line, "ALLOC", range, detail);
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Takes the bytes of a place of the kernel's choice.
    #[track_caller]
    pub fn alloc_at(&mut self, space: Space, at: u32, bytes: u32) -> u32 {
        let line = Location::caller();
        let (start, bytes) = (u64::from(at), u64::from(bytes));
        let range = |from, to| Bytes { space: space.to_string(), from, to };
        let (clash, fits) = self.arena(space).take_at(start, bytes, line);
        if let Err(detail) = fits {
            self.hazard(Code::OutOfBounds, line, "ALLOC", range(start, start + bytes), detail);
        }
        if let Some((from, to, other)) = clash {
            let detail = format!("{}:{} has bytes {from}..{to}", other.file(), other.line());
            let bytes = range(start.max(from), to.min(start + bytes));
            self.hazard(Code::Overlap, line, "ALLOC", bytes, detail);
        }
        at
    }

    /// Gives bytes back, by the place that they were given at.
    pub fn free(&mut self, space: Space, at: u32) {
        self.arena(space).give(at.into());
    }

    /// Gives back all of a memory.
    pub fn free_all(&mut self, space: Space) {
        self.arena(space).give_all();
    }

    /// Takes room for a matrix in UB, rows at multiples of 32 bytes.
    #[track_caller]
    pub fn ub(&mut self, elem: Elem, rows: u32, cols: u32) -> Tile {
        let tile = Tile::rows_of(Space::Ub, 0, elem, rows, cols);
        Tile { at: self.take(Space::Ub, tile.end().checked_next_multiple_of(32).unwrap_or(u64::MAX)), ..tile }
    }

    /// Takes room for a matrix in the layout that the machine wants in a memory of the cube.
    #[track_caller]
    pub fn cube_tile(&mut self, space: Space, elem: Elem, rows: u32, cols: u32) -> Tile {
        let tile = self.cube_tile_at(space, 0, elem, rows, cols);
        Tile { at: self.take(space, tile.end()), ..tile }
    }

    /// A matrix at a place in the layout that the machine wants there.
    pub fn cube_tile_at(&self, space: Space, at: u32, elem: Elem, rows: u32, cols: u32) -> Tile {
        if space == Space::L0c {
            return Tile::sums(at, elem, rows, cols);
        }
        let layout = self.profile.layouts.get(&space).copied().unwrap_or(Layout::Nd);
        Tile::fractals(space, at, elem, layout, rows, cols)
    }

    // MTE2.

    /// Rows to UB: `LD_GM_UB`.
    #[track_caller]
    pub fn load_ub(&mut self, from: Global, to: Tile) {
        self.push(Body::LoadUb(from, to));
    }

    /// Rows to fractals of L1: `LD_GM_L1_ND2NZ`.
    #[track_caller]
    pub fn load_nd2nz(&mut self, from: Global, to: Tile) {
        self.push(Body::LoadNd2Nz(from, to));
    }

    /// Rows that a list in UB names: `LD_GATHER_UB`.
    #[track_caller]
    pub fn gather_rows(&mut self, from: Global, index: Tile, to: Tile) {
        self.push(Body::GatherRows { from, index, to });
    }

    /// MX scales to L1: `LD_GM_L1_SCALE`.
    #[track_caller]
    pub fn load_scale(&mut self, from: Global, to: Tile) {
        self.push(Body::LoadScale(from, to));
    }

    // MTE1.

    /// A left operand: `LD_L1_L0A`.
    #[track_caller]
    pub fn load_l0a(&mut self, from: Tile, to: Tile) {
        self.push(Body::LoadL0a(from, to, false));
    }

    /// A right operand, `k x n`, from rows of `n`: `LD_L1_L0B` with transposition of each fractal.
    #[track_caller]
    pub fn load_l0b(&mut self, from: Tile, to: Tile) {
        self.push(Body::LoadL0b(from, to, false));
    }

    /// A right operand, `k x n`, from its transpose, rows of `k`: `LD_L1_L0B`.
    #[track_caller]
    pub fn load_l0b_transposed(&mut self, from: Tile, to: Tile) {
        self.push(Body::LoadL0b(from, to, true));
    }

    /// MX scales of both operands: `LD_L1_L0A_MX`, `LD_L1_L0B_MX`.
    #[track_caller]
    pub fn load_mx(&mut self, from: Tile, to: Tile) {
        self.push(match to.space {
            Space::L0aMx => Body::LoadL0aMx(from, to),
            _ => Body::LoadL0bMx(from, to),
        });
    }

    // Cube and FixPipe.

    /// `to = a b`: `MMAD`.
    #[track_caller]
    pub fn mmad(&mut self, to: Tile, a: Tile, b: Tile, init: Init) {
        self.push(Body::Mmad(Mmad { to, a, b, scales: None, init, unit_flag: UnitFlag::Off }));
    }

    /// `to = a b` of block-scaled operands: `MMAD_MX`.
    #[track_caller]
    pub fn mmad_mx(&mut self, to: Tile, [a, b]: [Tile; 2], scales: [Tile; 2], init: Init) {
        let scales = Some((scales[0], scales[1]));
        self.push(Body::Mmad(Mmad { to, a, b, scales, init, unit_flag: UnitFlag::Off }));
    }

    /// Sums to where they go, converted to its type.
    #[track_caller]
    pub fn fix(&mut self, from: Tile, to: FixTo) {
        self.push(Body::Fix(Fix::new(from, to)));
    }

    /// As [`fix`](Context::fix), in an order of the kernel's choice.
    #[track_caller]
    pub fn fix_as(&mut self, from: Tile, to: FixTo, mode: FixMode) {
        self.push(Body::Fix(Fix { mode, ..Fix::new(from, to) }));
    }

    // MTE3.

    /// Rows of UB to global memory: `ST_UB_GM`.
    #[track_caller]
    pub fn store(&mut self, from: Tile, to: Global) {
        self.push(Body::StoreGm(from, to, false));
    }

    /// Rows of UB, or its fractals, to fractals of L1: `ST_UB_L1`.
    #[track_caller]
    pub fn store_l1(&mut self, from: Tile, to: Tile) {
        self.push(Body::StoreL1(from, to));
    }

    // Order.

    /// Takes a flag between two engines.
    #[track_caller]
    pub fn flag(&mut self, from: Pipe, to: Pipe) -> u8 {
        let line = Location::caller();
        let used = self.flags.entry((from, to)).or_default();
        let id = used.trailing_ones() as u8;
        *used |= 1u8.checked_shl(id.into()).unwrap_or(0);
        if id >= FLAGS {
            let range = Bytes { space: format!("flags {from} to {to}"), from: id.into(), to: u64::from(id) + 1 };
            let detail = format!("a pair of engines has flags 0 to {}", FLAGS - 1);
            self.hazard(Code::FlagMisuse, line, "FLAG", range, detail);
        }
        id
    }

    /// Gives a flag back.
    pub fn free_flag(&mut self, from: Pipe, to: Pipe, id: u8) {
        if let Some(used) = self.flags.get_mut(&(from, to)) {
            *used &= !1u8.checked_shl(id.into()).unwrap_or(0);
        }
    }

    /// `SET_FLAG`: once `from` is through with what was recorded so far.
    #[track_caller]
    pub fn set_flag(&mut self, from: Pipe, to: Pipe, id: u8) {
        self.push(Body::SetFlag(from, to, id));
    }

    /// `WAIT_FLAG`: before `to` goes on.
    #[track_caller]
    pub fn wait_flag(&mut self, from: Pipe, to: Pipe, id: u8) {
        self.push(Body::WaitFlag(from, to, id));
    }

    /// A barrier of the cube between products that add to the same sums, where these are too few for it to keep the order.
    #[track_caller]
    pub(crate) fn chain(&mut self, rows: u32, cols: u32) {
        if rows.div_ceil(16) * cols.div_ceil(16) < CHAINED {
            self.barrier(Pipe::M);
        }
    }

    /// `BARRIER` of an engine: its next instruction begins when all before it are through.
    #[track_caller]
    pub fn barrier(&mut self, pipe: Pipe) {
        self.push(Body::Barrier(Barrier::Pipe(pipe)));
    }

    /// `BARRIER` of all engines of this unit.
    #[track_caller]
    pub fn barrier_all(&mut self) {
        self.push(Body::Barrier(Barrier::All));
    }

    /// `XSET`, once `pipe` is through with what was recorded so far.
    #[track_caller]
    pub fn cross_set(&mut self, pipe: Pipe, mode: Mode, id: u8) {
        self.push(Body::CrossSet(pipe, mode, id));
    }

    /// `XWAIT`, before `pipe` goes on.
    #[track_caller]
    pub fn cross_wait(&mut self, pipe: Pipe, mode: Mode, id: u8) {
        self.push(Body::CrossWait(pipe, mode, id));
    }
}
