//! Windows of tokens to one entry each, and the state that they leave.
//!
//! Entries first: what is in a window's slots is partly rows of the call, partly the state before it. When all cores are
//! through with those, the state takes what is in its slots after the call.

use super::pool::Pool;
use super::rows::{Loads, Stores};
use super::streams::parts;
use super::window::{Rows, Run, Source, runs};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Mode, Pipe};
use crate::kernel::{Context, Kernel};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step of the state.
const STEP: u32 = 4096;
/// Columns that a vector half is given at least.
const NARROWEST: u32 = 64;
/// Flag between all cores.
const ALL: u8 = 0;

pub(crate) fn supports(_op: &ops::KvCompress, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::KvCompress, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::KvCompress, npu: &Npu) -> Result<()> {
    let [rows, sequences, entries, dim] =
        [op.kv.size(0), op.state.size(0), op.out.size(0), op.out.size(1)].map(|size| size as u32);
    let [ratio, slots, channels] = [op.ratio(), op.slots(), op.channels()].map(|size| size as u32);
    if dim == 0 {
        return Ok(());
    }
    let (kv, gate, ape) = (read(&op.kv)?, read(&op.gate)?, read(&op.ape)?);
    let (mut state, mut out) = (write(&op.state)?, write(&op.out)?);
    let (sequence, position, closing) = (read(&op.sequence)?, read(&op.position)?, read(&op.closing)?);
    let mut gm = Gm::default();
    let matrix = |region, rows| Global::new(region, 0, Elem::F32, rows, channels);
    let lanes = 2 * npu.profile().figures.cube_cores as u32;
    let out_parts = parts(dim, Pool::columns(slots), lanes.div_ceil(entries.max(1)), NARROWEST);
    let state_parts = parts(channels, STEP, lanes.div_ceil(sequences.max(1)), NARROWEST);
    let kernel = KvCompress {
        kv: matrix(gm.input("kv", kv.bytes()), rows),
        gate: matrix(gm.input("gate", gate.bytes()), rows),
        ape: matrix(gm.input("ape", ape.bytes()), ratio),
        state: matrix(gm.state("state", state.bytes_mut()), sequences * 2 * slots),
        lists: [gm.input("sequence", sequence.bytes()), gm.input("position", position.bytes())],
        closing: gm.input("closing", closing.bytes()),
        sequences,
        slots,
        overlap: op.overlap,
        out: Global::new(gm.output("out", out.bytes_mut()), 0, elem(&op.out), entries, dim),
        out_parts,
        state_parts,
        cores: npu.vector_cores((entries * out_parts.0).max(sequences * state_parts.0) as usize),
    };
    npu.launch(ops::KvCompress::NAME, &kernel, &gm)
}

pub(super) struct KvCompress {
    pub(super) kv: Global,
    pub(super) gate: Global,
    pub(super) ape: Global,
    /// Slots: of each sequence those of its values, then those of its scores.
    pub(super) state: Global,
    /// Sequences and positions.
    lists: [u16; 2],
    closing: u16,
    sequences: u32,
    pub(super) slots: u32,
    pub(super) overlap: bool,
    pub(super) out: Global,
    /// Parts of an entry and their width; the same of a slot.
    out_parts: (u32, u32),
    state_parts: (u32, u32),
    cores: usize,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Values,
    Scores,
}

impl Kernel for KvCompress {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut rows = Rows::new(self.lists, self.kv.rows, self.sequences, self.ape.rows, self.overlap);
        self.entries(cx, &mut rows);
        // Nobody reads the state any more but its own lane.
        cx.barrier_all();
        cx.cross_set(Pipe::Mte2, Mode::Everywhere, ALL);
        cx.cross_wait(Pipe::Mte3, Mode::Everywhere, ALL);
        self.advance(cx, &mut rows);
    }
}

impl KvCompress {
    /// Rows that slots come from, of values or scores; scores of rows are without their offset.
    pub(super) fn source(
        &self,
        half: Half,
        sequence: u32,
        from: Source,
        slots: u32,
        (col, cols): (u32, u32),
    ) -> Global {
        match (from, half) {
            (Source::Row(row), Half::Values) => self.kv.part(row.into(), slots, col, cols),
            (Source::Row(row), Half::Scores) => self.gate.part(row.into(), slots, col, cols),
            (Source::State(slot), half) => self.place(half, sequence, slot, slots, (col, cols)),
        }
    }

    fn place(&self, half: Half, sequence: u32, slot: u32, slots: u32, (col, cols): (u32, u32)) -> Global {
        let first = u64::from(2 * sequence + u32::from(half == Half::Scores)) * u64::from(self.slots);
        self.state.part(first + u64::from(slot), slots, col, cols)
    }

    /// All entries. A lane has few entries, whose rows it looks at once, and takes them up by part, whose offsets it keeps.
    fn entries(&self, cx: &mut Context<'_>, rows: &mut Rows) {
        let (parts, width) = self.out_parts;
        let mut pool = Pool::new(cx, self, width);
        let pieces = cx.share(u64::from(self.out.rows) * u64::from(parts));
        let mut mine: Vec<(u32, u64)> =
            pieces.map(|piece| ((piece % u64::from(parts)) as u32, piece / u64::from(parts))).collect();
        mine.sort_unstable();
        for (part, entry) in mine {
            let (col, cols) = (part * width, width.min(self.out.cols - part * width));
            let closing = cx.load_i32(self.closing, 4 * entry);
            let window = rows.window(cx, closing);
            pool.entry(cx, window, (col, cols), self.out.part(entry, 1, col, cols));
        }
        pool.close(cx);
    }

    /// The state after the call.
    fn advance(&self, cx: &mut Context<'_>, rows: &mut Rows) {
        let (parts, width) = self.state_parts;
        let each = (STEP / width.next_multiple_of(8)).clamp(1, self.slots);
        let mut loads = Loads::new(cx, Elem::F32, each, width, 2);
        let mut offsets = Loads::new(cx, Elem::F32, each, width, 1);
        let mut stores = Stores::new(cx, Elem::F32, each, width, 2);
        for piece in cx.share(u64::from(self.sequences) * u64::from(parts)) {
            let (sequence, part) = ((piece / u64::from(parts)) as u32, (piece % u64::from(parts)) as u32);
            let cols = (part * width, width.min(self.state.cols - part * width));
            let all = runs(&rows.last(cx, sequence), 0, self.ape.rows);
            let changed = |run: &&Run| run.from != Source::State(run.slot);
            let old = |run: &&Run| matches!(run.from, Source::State(_));
            // What moves within the state goes before rows take its place.
            let moved = all.iter().filter(changed).filter(old);
            let new = all.iter().filter(|run| !old(run));
            for run in moved.chain(new) {
                for first in (0..run.slots).step_by(each as usize) {
                    let (slot, slots) = (run.slot + first, each.min(run.slots - first));
                    let from = run.from.plus(first);
                    for half in [Half::Values, Half::Scores] {
                        let tile = loads.load(cx, self.source(half, sequence, from, slots, cols));
                        let out = stores.begin(cx, slots, cols.1);
                        if half == Half::Scores && matches!(from, Source::Row(_)) {
                            let place = u64::from(slot % self.ape.rows);
                            let offset = offsets.load(cx, self.ape.part(place, slots, cols.0, cols.1));
                            cx.add(out, tile, offset);
                            offsets.free(cx);
                        } else {
                            cx.copy(out, tile);
                        }
                        loads.free(cx);
                        stores.store(cx, out, self.place(half, sequence, slot, slots, cols));
                    }
                }
            }
        }
        for loads in [loads, offsets] {
            loads.close(cx);
        }
        stores.close(cx);
    }
}
