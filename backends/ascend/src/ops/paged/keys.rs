//! Keys on their way to the cube: gathered from pools, unpacked by the vectors, ahead of the scores that they are for.

use super::unpack::{Room, Unpacker};
use super::{Lists, Scope};
use crate::isa::{Body, Elem, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::attention::{Feed, Plan, Step};
use crate::ops::handoff::Sender;

/// How a vector half's keys of a block are unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::ops) struct Feeding {
    /// Keys that are gathered and unpacked at once.
    keys: u32,
    /// Buffers of what is gathered, and of what is unpacked.
    gathered: usize,
    numbers: usize,
    /// Whether threads gather scales, then for so many blocks at once: a launch of theirs takes nearly as long as a block.
    threads: bool,
    stretch: u32,
}

impl Feeding {
    /// Of blocks of so many keys, a half's share at once or in so many parts.
    pub(in crate::ops) fn new(keys: u32, parts: u32, threads: bool, stretch: u32) -> Feeding {
        let most = keys.div_ceil(2).div_ceil(parts).max(1);
        // As many keys are on their way, whatever the parts. Each half of them has its time: see `Feed::unpack`.
        let (gathered, numbers) = ((2 * parts as usize).clamp(2, 4), (parts as usize / 2).clamp(1, 2));
        Feeding { keys: most, gathered, numbers, threads, stretch: if threads { stretch } else { 1 } }
    }

    /// With no more buffers of what is gathered than there are flags for.
    pub(in crate::ops) fn within(self, flags: usize) -> Feeding {
        Feeding { gathered: self.gathered.min(flags), ..self }
    }

    /// Blocks whose lists are in UB: those from the one whose scores come next to the one that is gathered next, and two
    /// stretches from there on, the second ahead of its time.
    fn listed(&self, ahead: usize) -> u32 {
        (ahead + self.gathered) as u32 + 2 * self.stretch
    }

    /// Bytes of UB, where scores are so many blocks ahead.
    pub(in crate::ops) fn bytes(&self, room: &Room, ahead: usize, keys: u32) -> u32 {
        room.bytes(self.keys, [self.gathered, self.numbers])
            + 2 * self.scales(room, keys)
            + 8 * keys * self.listed(ahead)
    }

    /// Bytes of a buffer of scales.
    fn scales(&self, room: &Room, keys: u32) -> u32 {
        let rows =
            if self.threads { keys.div_ceil(2) * self.stretch } else { self.keys * self.gathered.div_ceil(2) as u32 };
        (rows * room.scales).max(32)
    }

    /// Whether threads gather scales.
    pub(in crate::ops) fn threads(&self) -> bool {
        self.threads
    }
}

/// Stretches whose lists are loaded before threads go by them: the next, and one for each buffer of what is gathered.
const LISTED: usize = 5;

/// Keys of a block that are gathered and unpacked at once. A block of which this half has none has one piece without keys.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    step: usize,
    scope: usize,
    /// Row of the block, and how many.
    row: u32,
    keys: u32,
    /// Which stretch its block is of.
    stretch: usize,
}

/// Blocks whose lists are loaded at once, and whose scales come at once: of several each has the same pieces, of one scope.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Step of the first block, and how many there are.
    first: usize,
    blocks: usize,
    keys: u32,
}

/// Where scales come to: by threads of the scalar unit, a stretch at once; or as the data do.
enum Scales {
    Threads { queue: Queue, listed: [u8; LISTED], at: u32 },
    Rows { at: u32, each: u32 },
}

impl Scales {
    fn new(cx: &mut Context<'_>, feeding: &Feeding, room: &Room, keys: u32) -> Scales {
        let bytes = feeding.scales(room, keys);
        if !feeding.threads {
            return Scales::Rows { at: cx.alloc(Space::Ub, 2 * bytes), each: feeding.keys * room.scales };
        }
        let queue = Queue::new(cx, Pipe::S, Pipe::V, Space::Ub, bytes, 2);
        Scales::Threads { queue, listed: [(); LISTED].map(|()| cx.flag(Pipe::Mte2, Pipe::S)), at: 0 }
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
    stretches: Vec<Stretch>,
    /// How many stretches' lists are loaded.
    listed: usize,
    /// All pieces of this half, and how many are gathered and unpacked.
    pieces: Vec<Piece>,
    gathered: usize,
    unpacked: usize,
    data: Queue,
    scales: Scales,
    numbers: Queue,
    sender: Sender,
    /// Lists of blocks that are under way, elements' and scales' rows; the first say which keys there are.
    places: [Tile; 2],
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
        let (elem, feeding) = (plan.needs.elem, plan.feeding);
        let keys = feeding.keys;
        let room = Room::of(scopes.iter().map(|scope| scope.format), elem, cx.is_950());
        let between = cx.alloc(Space::Ub, (room.between * keys).max(32));
        let unpackers: Vec<Unpacker> =
            scopes.iter().map(|scope| Unpacker::new(cx, scope, elem, keys, between)).collect();
        let places = feeding.listed(plan.ahead) * plan.keys;
        Some(Keys {
            scopes,
            lists,
            plan,
            row_of,
            stretches: Vec::new(),
            listed: 0,
            pieces: Vec::new(),
            gathered: 0,
            unpacked: 0,
            data: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, room.data * keys, feeding.gathered),
            scales: Scales::new(cx, &feeding, &room, plan.keys),
            numbers: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, room.numbers * keys, feeding.numbers),
            sender: Sender::new(plan.fed?),
            unpackers,
            places: [(); 2].map(|()| cx.ub(Elem::I32, 1, places)),
        })
    }

    /// This half's pieces of a step's keys.
    fn pieces_of(&self, half: usize, number: usize, step: &Step) -> Vec<Piece> {
        let (start, mut pieces) = (step.block as u32 * self.plan.keys, Vec::new());
        let piece = |scope, row, keys| Piece { step: number, scope, row, keys, stretch: 0 };
        for (scope, Scope { start: first, .. }) in self.scopes.iter().enumerate() {
            // Places between scopes, and the one that there is even where lists have none, are those of the scope before.
            let end = self.scopes.get(scope + 1).map_or(u32::MAX, |next| next.start);
            let (from, to) = ((*first).max(start), end.min(start + step.keys));
            if from >= to {
                continue;
            }
            let upper = (to - from).div_ceil(2);
            let (from, to) = if half == 0 { (from, from + upper) } else { (from + upper, to) };
            let most = self.plan.feeding.keys;
            for first in (from..to).step_by(most as usize) {
                pieces.push(piece(scope, first - start, most.min(to - first)));
            }
        }
        if pieces.is_empty() {
            pieces.push(piece(0, 0, 0));
        }
        pieces
    }

    /// All pieces, and the stretches that their blocks are.
    fn divide(&mut self, half: usize, steps: &[Step]) {
        let Feeding { stretch, .. } = self.plan.feeding;
        let room = self.plan.feeding.listed(self.plan.ahead) as usize;
        let mut before: Vec<Piece> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let mut pieces = self.pieces_of(half, number, step);
            let same =
                |(one, other): (&Piece, &Piece)| (one.scope, one.row, one.keys) == (other.scope, other.row, other.keys);
            let alike = pieces.len() == before.len()
                && pieces.iter().zip(&before).all(same)
                && pieces.iter().all(|piece| piece.scope == pieces[0].scope);
            let last = self.stretches.last_mut().filter(|last| {
                // Nothing can begin before the first stretch is there: it is short.
                let most = if last.first == 0 { stretch.div_ceil(2) } else { stretch };
                // Lists lie one behind the other.
                let goes_on = !step.first() && step.keys == self.plan.keys && !number.is_multiple_of(room);
                goes_on && alike && last.blocks < most as usize && last.keys == last.blocks as u32 * self.plan.keys
            });
            match last {
                Some(last) => (last.blocks, last.keys) = (last.blocks + 1, last.keys + step.keys),
                None => self.stretches.push(Stretch { first: number, blocks: 1, keys: step.keys }),
            }
            pieces.iter_mut().for_each(|piece| piece.stretch = self.stretches.len() - 1);
            self.pieces.extend(&pieces);
            before = pieces;
        }
    }

    /// Places of a block, from one of its rows on.
    fn places(&self, step: usize, row: u32, keys: u32) -> [Tile; 2] {
        let room = self.plan.feeding.listed(self.plan.ahead) as usize;
        let first = (step % room) as u32 * self.plan.keys + row;
        self.places.map(|tile| Tile { at: tile.at + 4 * first, cols: keys, ..tile })
    }

    /// Loads the lists of the next stretch.
    fn load_lists(&mut self, cx: &mut Context<'_>, steps: &[Step]) {
        let Some(Stretch { first, keys, .. }) = self.stretches.get(self.listed).copied() else { return };
        let (row, start) = ((self.row_of)(&steps[first]), steps[first].block as u32 * self.plan.keys);
        let tiles = self.places(first, 0, keys);
        for (scales, tile) in tiles.into_iter().enumerate().take(1 + usize::from(self.lists.scaled)) {
            cx.load_ub(self.lists.part(cx.core(), row, scales == 1, start, keys), tile);
        }
        if let Scales::Threads { listed, .. } = &self.scales {
            cx.set_flag(Pipe::Mte2, Pipe::S, listed[self.listed % LISTED]);
        }
        self.listed += 1;
    }

    /// Gathers the next piece, once the one is unpacked that was in its place.
    fn gather_piece(&mut self, cx: &mut Context<'_>, steps: &[Step]) {
        let Some(piece) = self.pieces.get(self.gathered).copied() else { return };
        let turn = self.gathered;
        self.gathered += 1;
        // The buffer that is waited for says that the blocks are through whose lists were here.
        let data = self.data.alloc(cx);
        while self.listed < (piece.stretch + 2).min(self.stretches.len()) {
            self.load_lists(cx, steps);
        }
        let rows = self.places(piece.step, piece.row, piece.keys);
        let parts = &self.unpackers[piece.scope].parts;
        let scales = self.scales_of(turn);
        let tiles = parts.tiles(data, scales.unwrap_or_default(), piece.keys);
        for (to, (places, of_scales)) in tiles.into_iter().zip(&parts.parts) {
            if piece.keys > 0 && (!of_scales || scales.is_some()) {
                cx.gather_rows(places.rows, rows[usize::from(*of_scales)], to);
            }
        }
        self.data.push(cx);
    }

    /// Where the scales of a piece come to that come as the data do.
    fn scales_of(&self, turn: usize) -> Option<u32> {
        let Scales::Rows { at, each } = self.scales else { return None };
        Some(at + (turn % self.plan.feeding.gathered) as u32 * each)
    }

    /// Has threads gather the scales of the next piece's stretch, once those of the one before last are used. What other
    /// engines do in the meantime was issued before.
    fn gather_scales(&mut self, cx: &mut Context<'_>) {
        let Some(first) = self.pieces.get(self.unpacked).copied() else { return };
        let Some(stretch) = self.stretches.get(first.stretch).copied() else { return };
        // A block's pieces of one scope lie one behind the other.
        let mut runs: Vec<Piece> = Vec::new();
        for piece in self.pieces[self.unpacked..].iter().take_while(|piece| piece.step == first.step) {
            match runs.last_mut().filter(|run| run.scope == piece.scope) {
                Some(run) => run.keys += piece.keys,
                None => runs.push(*piece),
            }
        }
        let lists: Vec<Tile> = runs.iter().map(|run| self.places(run.step, run.row, run.keys)[1]).collect();
        let Scales::Threads { queue, listed, at } = &mut self.scales else { return };
        let mut place = queue.alloc(cx);
        *at = place;
        cx.wait_flag(Pipe::Mte2, Pipe::S, listed[first.stretch % LISTED]);
        let blocks = stretch.blocks as u32;
        for (run, list) in runs.iter().zip(lists).filter(|(run, _)| run.keys > 0) {
            let Some((from, to)) = self.unpackers[run.scope].parts.scales(place, blocks * run.keys) else { continue };
            cx.push(Body::SimtGather { from, index: Tile { rows: blocks, pitch: self.plan.keys, ..list }, to });
            place += to.rows * to.pitch;
        }
        queue.push(cx);
        queue.pop(cx);
    }

    /// Gathers as many pieces ahead as there are buffers.
    fn gather(&mut self, cx: &mut Context<'_>, steps: &[Step]) {
        while self.gathered < (self.unpacked + self.plan.feeding.gathered).min(self.pieces.len()) {
            self.gather_piece(cx, steps);
        }
    }

    fn unpack_piece(&mut self, cx: &mut Context<'_>, step: &Step, piece: &Piece) {
        let turn = self.unpacked;
        let of_stretch = |turn: Option<usize>| {
            turn.and_then(|turn| self.pieces.get(turn)).is_some_and(|other| other.stretch == piece.stretch)
        };
        let (first, last) = (!of_stretch(turn.checked_sub(1)), !of_stretch(turn.checked_add(1)));
        if first {
            self.gather_scales(cx);
        }
        self.unpacked += 1;
        let data = self.data.pop(cx);
        let scales = match &self.scales {
            Scales::Threads { at, .. } => *at,
            Scales::Rows { .. } => self.scales_of(turn).unwrap_or_default(),
        };
        let unpacker = &self.unpackers[piece.scope];
        let mut rows = Vec::new();
        if piece.keys > 0 {
            let to = self.numbers.alloc(cx);
            rows = unpacker.unpack(cx, &unpacker.parts.tiles(data, scales, piece.keys), to);
        }
        if let Scales::Threads { queue, at, .. } = &mut self.scales {
            *at += unpacker.parts.scales(scales, piece.keys).map_or(0, |(_, tile)| tile.rows * tile.pitch);
            if last {
                queue.free(cx);
            }
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
    fn unpack(&mut self, cx: &mut Context<'_>, steps: &[Step], number: isize, half: usize) {
        if self.pieces.is_empty() {
            self.divide(cx.half(), steps);
        }
        let Some(number) = usize::try_from(number).ok().filter(|number| *number < steps.len()) else { return };
        if half == 0 {
            self.sender.begin(cx, Pipe::Mte3);
        }
        let left = self.pieces[self.unpacked..].iter().take_while(|piece| piece.step == number).count();
        for _ in 0..if half == 0 { left / 2 } else { left } {
            let piece = self.pieces[self.unpacked];
            self.gather(cx, steps);
            self.unpack_piece(cx, &steps[number], &piece);
            // As soon as a buffer is free, so that what else is loaded does not wait for long.
            self.gather(cx, steps);
        }
        if half == 1 {
            self.sender.end(cx, Pipe::Mte3);
        }
    }

    fn present(&self, step: usize, keys: u32) -> Tile {
        self.places(step, 0, keys)[0]
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
