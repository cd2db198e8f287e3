//! What instructions compute: values in the memories of a core, in the order in which a schedule has them.

mod arithmetic;
mod atomic;
mod cube;
mod encode;
mod fix;
mod transfer;
mod vector;

use super::global::Gm;
use super::hazard::{At, Bytes, Code, Hazard, Hazards};
use super::memory::Memories;
use super::order::Next;
use crate::isa::{Blocks, Body, Elem, Global, Instr, Place, Tile, Unit, local};
use crate::layout::{FRACTAL_ROWS, Layout};
use crate::machine::{Arch, Profile};
use atomic::Addition;

/// A core's memories, and what it does to global memory.
pub(crate) struct Executor<'a, 'g> {
    gm: &'a Gm<'g>,
    core: usize,
    flushes: bool,
    memories: &'a mut Memories,
    /// What memory is still to add.
    additions: Vec<Addition>,
    pub(crate) hazards: Hazards,
    /// The instruction that runs.
    current: Option<At>,
}

impl<'a, 'g> Executor<'a, 'g> {
    pub(crate) fn new(profile: &Profile, gm: &'a Gm<'g>, core: usize, memories: &'a mut Memories) -> Executor<'a, 'g> {
        memories.reset();
        let flushes = profile.arch == Arch::V3510;
        Executor { gm, core, flushes, memories, additions: Vec::new(), hazards: Hazards::default(), current: None }
    }

    /// Runs an instruction that breaks no rule.
    pub(crate) fn run(&mut self, next: Next, instr: &Instr) {
        let unit = next.unit;
        self.current = Some(At::new(instr.name(), self.core, unit, next.index, instr.line));
        match &instr.body {
            Body::Mmad(mmad) => self.mmad(mmad),
            Body::Fix(fix) => self.fix(fix),
            Body::Vector(vector) => self.vector(unit, vector),
            body => self.transfer(unit, body),
        }
    }

    fn hazard(&mut self, code: Code, place: Place, blocks: Blocks, detail: String) {
        let name = |region: u16| self.gm.name(region).to_string();
        let bytes = Some(Bytes::of(place, &blocks, &name));
        if let Some(at) = self.current.clone() {
            self.hazards.add(Hazard { code, at, with: None, bytes, detail });
        }
    }

    fn undefined(&mut self, place: Place, at: u64) {
        let blocks = Blocks { at, len: 1, count: 1, pitch: 0 };
        self.hazard(Code::Uninitialised, place, blocks, format!("byte {at} holds nothing yet"));
    }

    /// A matrix row by row without gaps. Columns up to the next whole fractal are `padded` in.
    fn gather(&mut self, unit: Unit, tile: &Tile, padded: bool) -> Vec<u8> {
        let place = local(tile, unit);
        let (width, chunk) = widths(tile, padded);
        let mut out = vec![0; tile.rows as usize * width];
        let mut first = None;
        if let Some(memory) = self.memories.get(place) {
            each_chunk(tile, width, chunk, |row, done, at, len| {
                out[row * width + done..][..len].copy_from_slice(memory.read(at, len));
                first = first.or_else(|| memory.undefined(at, len));
            });
        }
        if let Some(at) = first {
            self.undefined(place, at as u64);
        }
        out
    }

    /// Puts rows of bytes without gaps where a matrix lies.
    fn scatter(&mut self, unit: Unit, tile: &Tile, bytes: &[u8], padded: bool) {
        let (width, chunk) = widths(tile, padded);
        if let Some(memory) = self.memories.get_mut(local(tile, unit)) {
            each_chunk(tile, width, chunk, |row, done, at, len| {
                memory.write(at, len).copy_from_slice(&bytes[row * width + done..][..len]);
            });
        }
    }

    /// Rows of global memory without gaps.
    fn gather_gm(&mut self, from: &Global) -> Vec<u8> {
        self.settle_within(from);
        let width = from.elem.bytes(from.cols as usize);
        let mut out = vec![0; width * from.rows as usize];
        let mut undefined = None;
        for (row, out) in out.chunks_mut(width.max(1)).enumerate() {
            let read = self.gm.read(from.region, from.at + row as u64 * from.pitch, out);
            undefined = undefined.or(read.err());
        }
        if let Some(at) = undefined {
            self.undefined(Place::Gm(from.region), at);
        }
        out
    }

    /// Rows of bytes to global memory.
    fn scatter_gm(&mut self, to: &Global, bytes: Vec<u8>, atomic: bool) {
        if atomic {
            return self.add_later(*to, bytes);
        }
        self.settle_within(to);
        for (row, bytes) in bytes.chunks(to.elem.bytes(to.cols as usize).max(1)).enumerate() {
            self.gm.write(to.region, to.at + row as u64 * to.pitch, bytes);
        }
    }
}

/// Bytes of a row, and of what lies in one piece of it. Whole fractals count as part of a row where it is `padded`.
fn widths(tile: &Tile, padded: bool) -> (usize, usize) {
    let width = tile.elem.bytes(tile.cols as usize);
    match tile.layout {
        Layout::Nd => (width, width),
        _ => {
            let chunk = tile.elem.bytes(tile.c0() as usize);
            (if padded { width.next_multiple_of(chunk) } else { width }, chunk)
        }
    }
}

/// Calls `f` with each piece of a matrix whose rows lie in pieces: its row, the bytes of the row before it, where it lies,
/// and its length.
fn each_chunk(tile: &Tile, width: usize, chunk: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
    let (base, pitch) = (tile.at as usize, tile.elem.bytes(tile.pitch as usize));
    for row in 0..tile.rows as usize {
        let mut done = 0;
        while done < width {
            let len = chunk.min(width - done);
            let place = match tile.layout {
                Layout::Nd => row * pitch + done,
                Layout::Zz => row / FRACTAL_ROWS * pitch + done * FRACTAL_ROWS + row % FRACTAL_ROWS * chunk,
                // ZN is given as the NZ of its transpose.
                Layout::Nz | Layout::Zn => done / chunk * pitch + row * chunk,
            };
            f(row, done, base + place, len);
            done += len;
        }
    }
}

/// A right operand as what it is in memory: the NZ of its transpose.
fn turned(tile: &Tile) -> Tile {
    match tile.layout {
        Layout::Zn => Tile { layout: Layout::Nz, rows: tile.cols, cols: tile.rows, ..*tile },
        _ => *tile,
    }
}

/// Numbers of some bytes.
fn numbers(elem: Elem, bytes: &[u8], count: usize) -> Vec<f32> {
    match elem {
        Elem::F32 => {
            bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
        }
        Elem::BF16 => bytes
            .chunks_exact(2)
            .map(|half| f32::from_bits(u32::from(u16::from_le_bytes([half[0], half[1]])) << 16))
            .collect(),
        _ => (0..count).map(|index| elem.number(bytes, index)).collect(),
    }
}

/// Numbers of a matrix in rows of bytes without gaps, each of which begins at a whole byte.
fn numbers_of(tile: &Tile, bytes: &[u8]) -> Vec<f32> {
    if packed(tile) {
        return each_packed(tile, bytes, |row, col| tile.elem.number(row, col));
    }
    numbers(tile.elem, bytes, tile.count())
}

/// Whether rows of packed elements end within a byte.
fn packed(tile: &Tile) -> bool {
    tile.elem.bits() == 4 && tile.cols % 2 == 1
}

fn each_packed<T>(tile: &Tile, bytes: &[u8], f: impl Fn(&[u8], usize) -> T) -> Vec<T> {
    let cols = tile.cols as usize;
    let rows = bytes.chunks(tile.elem.bytes(cols).max(1));
    rows.flat_map(|row| (0..cols).map(|col| f(row, col)).collect::<Vec<T>>()).collect()
}
