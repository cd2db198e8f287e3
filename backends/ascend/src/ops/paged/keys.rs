//! Keys on their way to the cube: gathered from pools, unpacked by the vectors, ahead of the scores that they are for.

use super::unpack::{Room, Unpacker};
use super::{Lists, Scope};
use crate::isa::{Body, Elem, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::attention::{Feed, Plan, Step};
use crate::ops::handoff::Sender;

/// Rows of a list begin in UB at multiples of so many places.
const UNIT: u32 = 8;

/// Buffers of what is gathered.
const GATHERED: usize = 2;

/// Keys of a block that are gathered and unpacked at once. A block of which this half has none has one piece without keys.
#[derive(Clone, Copy, Debug)]
struct Piece {
    step: usize,
    scope: usize,
    /// Row of the block, and how many.
    row: u32,
    keys: u32,
}

/// Where scales come to: by threads of the scalar unit, which may gather while other engines have something to do; or as the
/// data do.
enum Scales {
    Threads { queue: Queue, listed: [u8; GATHERED], turn: usize },
    Rows([u32; GATHERED]),
}

impl Scales {
    fn new(cx: &mut Context<'_>, bytes: u32, threads: bool) -> Scales {
        if !threads {
            return Scales::Rows([(); GATHERED].map(|()| cx.alloc(Space::Ub, bytes)));
        }
        let queue = Queue::new(cx, Pipe::S, Pipe::V, Space::Ub, bytes, GATHERED);
        Scales::Threads { queue, listed: [(); GATHERED].map(|()| cx.flag(Pipe::Mte2, Pipe::S)), turn: 0 }
    }
}

/// The keys of a vector half's part of each block.
pub(in crate::ops) struct Keys<'w> {
    scopes: &'w [Scope],
    lists: Lists,
    plan: &'w Plan,
    /// Row of the core's that a step is for.
    row_of: Box<dyn Fn(&Step) -> u64 + 'w>,
    unpackers: Vec<Unpacker>,
    /// All pieces of this half, and how many are gathered and unpacked.
    pieces: Vec<Piece>,
    gathered: usize,
    unpacked: usize,
    data: Queue,
    scales: Scales,
    numbers: Queue,
    sender: Sender,
    /// Lists of blocks that are under way, elements' and scales' rows; the first say which keys there are.
    places: Vec<[Tile; 2]>,
    /// Places of a piece that does not begin where a list can.
    moved: [Tile; 2],
}

impl<'w> Keys<'w> {
    /// Takes room in UB.
    pub(in crate::ops) fn new(
        cx: &mut Context<'_>,
        plan: &'w Plan,
        scopes: &'w [Scope],
        lists: Lists,
        row_of: Box<dyn Fn(&Step) -> u64 + 'w>,
    ) -> Option<Keys<'w>> {
        let (elem, keys) = (plan.needs.elem, plan.unpacked);
        let room = Room::of(scopes.iter().map(|scope| scope.format), elem, cx.is_950());
        let block = |cx: &mut Context<'_>, keys| [(); 2].map(|()| cx.ub(Elem::I32, 1, keys));
        let between = cx.alloc(Space::Ub, (room.between * keys).max(32));
        let unpackers: Vec<Unpacker> =
            scopes.iter().map(|scope| Unpacker::new(cx, scope, elem, keys, between)).collect();
        // Threads gather where a half's keys of a block are one piece: then they have the time of a whole step.
        let once = keys * 2 == plan.keys;
        let threads = cx.is_950() && once && scopes.iter().all(|scope| scope.scales().is_some());
        Some(Keys {
            scopes,
            lists,
            plan,
            row_of,
            pieces: Vec::new(),
            gathered: 0,
            unpacked: 0,
            data: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, room.data * keys, GATHERED),
            scales: Scales::new(cx, (room.scales * keys).max(32), threads),
            numbers: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, room.numbers * keys, if once { 1 } else { 2 }),
            sender: Sender::new(plan.fed?),
            unpackers,
            // A block's list comes up to two steps before its keys go, which go ahead of its scores.
            places: (0..plan.ahead + 4).map(|_| block(cx, plan.keys)).collect(),
            moved: block(cx, plan.unpacked),
        })
    }

    /// This half's pieces of a step's keys.
    fn pieces_of(&self, half: usize, number: usize, step: &Step) -> Vec<Piece> {
        let (start, mut pieces) = (step.block as u32 * self.plan.keys, Vec::new());
        for (scope, Scope { start: first, .. }) in self.scopes.iter().enumerate() {
            // Places between scopes, and the one that there is even where lists have none, are those of the scope before.
            let end = self.scopes.get(scope + 1).map_or(u32::MAX, |next| next.start);
            let (from, to) = ((*first).max(start), end.min(start + step.keys));
            if from >= to {
                continue;
            }
            let upper = (to - from).div_ceil(2).next_multiple_of(UNIT).min(to - from);
            let (from, to) = if half == 0 { (from, from + upper) } else { (from + upper, to) };
            for first in (from..to).step_by(self.plan.unpacked as usize) {
                let keys = self.plan.unpacked.min(to - first);
                pieces.push(Piece { step: number, scope, row: first - start, keys });
            }
        }
        if pieces.is_empty() {
            pieces.push(Piece { step: number, scope: 0, row: 0, keys: 0 });
        }
        pieces
    }

    fn places(&self, at: usize, keys: u32) -> [Tile; 2] {
        self.places[at % self.places.len()].map(|tile| Tile { cols: keys, ..tile })
    }

    /// Gathers the next piece, once the one is unpacked that was in its place.
    fn gather_piece(&mut self, cx: &mut Context<'_>, steps: &[Step]) {
        let Some(piece) = self.pieces.get(self.gathered).copied() else { return };
        let new = self.gathered == 0 || self.pieces[self.gathered - 1].step != piece.step;
        let turn = self.gathered;
        self.gathered += 1;
        let step = &steps[piece.step];
        let (row, start) = ((self.row_of)(step), step.block as u32 * self.plan.keys);
        let (core, lists) = (cx.core(), self.lists);
        let all_scaled = self.scopes.iter().all(|scope| scope.scales().is_some());
        let [list, scales] = self.places(piece.step, step.keys);
        // The buffer that is waited for says that the block is through whose list was here.
        let data = self.data.alloc(cx);
        if new {
            cx.load_ub(lists.part(core, row, false, start, step.keys), list);
            if all_scaled {
                cx.load_ub(lists.part(core, row, true, start, step.keys), scales);
            }
        }
        let aligned = piece.row.is_multiple_of(UNIT);
        let mut rows = [list, scales].map(|tile| Tile { at: tile.at + 4 * piece.row, cols: piece.keys, ..tile });
        for (kind, there) in [true, all_scaled].into_iter().enumerate() {
            let wanted = kind == 0 || self.scopes[piece.scope].scales().is_some();
            if piece.keys > 0 && wanted && !(aligned && there) {
                rows[kind] = Tile { cols: piece.keys, ..self.moved[kind] };
                cx.load_ub(lists.part(core, row, kind == 1, start + piece.row, piece.keys), rows[kind]);
            }
        }
        let parts = &self.unpackers[piece.scope].parts;
        // Threads do the scales, whose rows are short; but not by a list that soon is another.
        let threads = match &mut self.scales {
            Scales::Threads { queue, listed, turn } => {
                let flag = listed[*turn % GATHERED];
                *turn += 1;
                cx.set_flag(Pipe::Mte2, Pipe::S, flag);
                let scales = queue.alloc(cx);
                cx.wait_flag(Pipe::Mte2, Pipe::S, flag);
                scales
            }
            Scales::Rows(places) => places[turn % GATHERED],
        };
        let by_threads = matches!(self.scales, Scales::Threads { .. }) && aligned;
        for (to, (places, of_scales)) in parts.tiles(data, threads, piece.keys).into_iter().zip(&parts.parts) {
            let index = rows[usize::from(*of_scales)];
            if piece.keys == 0 {
                continue;
            }
            if by_threads && *of_scales {
                cx.push(Body::SimtGather { from: places.rows, index, to });
            } else {
                cx.gather_rows(places.rows, index, to);
            }
        }
        self.data.push(cx);
        if let Scales::Threads { queue, .. } = &mut self.scales {
            queue.push(cx);
        }
    }

    fn unpack_piece(&mut self, cx: &mut Context<'_>, step: &Step, piece: &Piece) {
        let turn = self.unpacked;
        self.unpacked += 1;
        let data = self.data.pop(cx);
        let scales = match &mut self.scales {
            Scales::Threads { queue, .. } => queue.pop(cx),
            Scales::Rows(places) => places[turn % GATHERED],
        };
        let mut rows = Vec::new();
        if piece.keys > 0 {
            let unpacker = &self.unpackers[piece.scope];
            let to = self.numbers.alloc(cx);
            rows = unpacker.unpack(cx, &unpacker.parts.tiles(data, scales, piece.keys), to);
        }
        if let Scales::Threads { queue, .. } = &mut self.scales {
            queue.free(cx);
        }
        self.data.free(cx);
        if piece.keys > 0 {
            self.numbers.push(cx);
            self.numbers.pop(cx);
            for (col, part) in rows {
                self.sender.rows(cx, part, [step.keys, self.plan.needs.dim], piece.row, col);
            }
            self.numbers.free(cx);
        }
    }
}

impl Feed for Keys<'_> {
    fn unpack(&mut self, cx: &mut Context<'_>, steps: &[Step], number: isize) {
        if self.pieces.is_empty() {
            let pieces = steps.iter().enumerate().flat_map(|(number, step)| self.pieces_of(cx.half(), number, step));
            self.pieces = pieces.collect();
        }
        let Some(number) = usize::try_from(number).ok().filter(|number| *number < steps.len()) else { return };
        let threads = matches!(self.scales, Scales::Threads { .. });
        self.sender.begin(cx, Pipe::Mte3);
        while let Some(piece) = self.pieces.get(self.unpacked).copied().filter(|piece| piece.step == number) {
            if self.gathered == self.unpacked {
                self.gather_piece(cx, steps);
            }
            self.unpack_piece(cx, &steps[number], &piece);
            // As soon as a buffer is free, so that what else is loaded does not wait for long.
            if !threads {
                self.gather(cx, steps);
            }
        }
        self.sender.end(cx, Pipe::Mte3);
    }

    /// By threads one piece, into a buffer that was free before this step: the scalar unit, which waits for it, has issued
    /// what the others do in the meantime.
    fn gather(&mut self, cx: &mut Context<'_>, steps: &[Step]) {
        // At the beginning all buffers are free.
        let few = self.gathered > 0 && matches!(self.scales, Scales::Threads { .. });
        let ahead = if few { 1 } else { GATHERED };
        while self.gathered < (self.unpacked + ahead).min(self.pieces.len()) {
            self.gather_piece(cx, steps);
        }
    }

    fn present(&self, step: usize, keys: u32) -> Tile {
        self.places(step, keys)[0]
    }

    fn close(self, cx: &mut Context<'_>) {
        self.data.close(cx);
        if let Scales::Threads { queue, .. } = self.scales {
            queue.close(cx);
        }
        self.numbers.close(cx);
        self.sender.close(cx, Pipe::Mte3);
    }
}
