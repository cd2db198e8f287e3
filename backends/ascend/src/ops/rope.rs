//! `(a, b) <- (a c - b s, b c + a s)` for the last `R` pairs of each head, `(c, s) = angles[t, i]`

use super::grid::{Grid, Piece};
use super::moves::Moves;
use super::rows::{Loads, Stores};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Tile};
use crate::kernel::{Context, Kernel};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step that are copied.
const COPIED: usize = 4096;
/// Elements of a step that turn: 8 KiB of f32, of which UB holds sixteen.
const TURNED: u32 = 2048;

pub(crate) fn supports(_op: &ops::Rope, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::Rope, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Rope, npu: &Npu) -> Result<()> {
    let (tokens, heads, dim, pairs) = (op.x.size(0), op.x.size(1), op.x.size(2), op.angles.size(1));
    if op.x.count() == 0 {
        return Ok(());
    }
    let (x, angles, mut out) = (read(&op.x)?, read(&op.angles)?, write(&op.out)?);
    let mut gm = Gm::default();
    let (rows, front) = (tokens * heads, dim - 2 * pairs);
    let matrix = |region, tensor| Global::new(region, 0, elem(tensor), rows as u32, dim as u32);
    let copied = (front > 0).then(|| Grid::new(npu, [rows, front], 1, 32, COPIED));
    let turned = Turned::new(tokens, heads, pairs);
    let pieces = copied.map_or(0, |grid| grid.pieces()).max(turned.pieces());
    let kernel = Rope {
        x: matrix(gm.input("x", x.bytes()), &op.x),
        angles: Global::new(gm.input("angles", angles.bytes()), 0, Elem::F32, tokens as u32, 2 * pairs as u32),
        out: matrix(gm.output("out", out.bytes_mut()), &op.out),
        front: front as u32,
        inverse: op.inverse,
        copied,
        turned,
        cores: npu.vector_cores(pieces as usize),
    };
    npu.launch(ops::Rope::NAME, &kernel, &gm)
}

/// How the elements that turn are cut: into tokens, heads and columns.
#[derive(Clone, Copy, Debug)]
struct Turned {
    sizes: [u64; 3],
    each: [u32; 3],
}

impl Turned {
    fn new(tokens: usize, heads: usize, pairs: usize) -> Turned {
        let cols = (2 * pairs as u32).min(TURNED);
        let rows = TURNED / cols.next_multiple_of(16).max(1);
        let some = rows.clamp(1, heads as u32);
        let batch = if some < heads as u32 { 1 } else { (rows / some).clamp(1, tokens as u32) };
        Turned { sizes: [tokens, heads, 2 * pairs].map(|size| size as u64), each: [batch, some, cols] }
    }

    fn across(&self) -> [u64; 3] {
        [0, 1, 2].map(|axis| self.sizes[axis].div_ceil(u64::from(self.each[axis].max(1))))
    }

    fn pieces(&self) -> u64 {
        self.across().iter().product()
    }

    /// First and number of a piece's columns, tokens and heads. Pieces of the same columns follow one another.
    fn piece(&self, number: u64) -> [(u64, u32); 3] {
        let [tokens, heads, _] = self.across();
        let at = [number / heads % tokens, number % heads, number / heads / tokens];
        [0, 1, 2].map(|axis| {
            let each = u64::from(self.each[axis]);
            (at[axis] * each, each.min(self.sizes[axis] - at[axis] * each) as u32)
        })
    }
}

struct Rope {
    x: Global,
    angles: Global,
    out: Global,
    /// Elements of a head that are copied.
    front: u32,
    inverse: bool,
    copied: Option<Grid>,
    turned: Turned,
    cores: usize,
}

impl Kernel for Rope {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let copied = self.copied.map(|grid| {
            let mut moves = Moves::new(cx, self.x.elem, self.out.elem, grid.each, grid.wide);
            for number in cx.share(grid.pieces()) {
                let Piece { row, rows, col, cols } = grid.piece(number);
                moves.run(cx, &[self.x.part(row, rows, col, cols)], &[(0, self.out.part(row, rows, col, cols))]);
            }
            moves
        });
        if self.turned.pieces() > 0 {
            self.turn(cx);
        }
        // Not before: what turns would have to wait for the room.
        if let Some(moves) = copied {
            moves.close(cx);
        }
    }
}

/// Tiles that a vector half keeps: places of neighbours and of cosines, and which sines change their sign.
struct Lists {
    neighbours: Tile,
    cosines: Tile,
    sines: Tile,
    signs: Tile,
}

impl Rope {
    /// `x c + neighbour of x * s`, where the sine has the other sign in one element of each pair.
    fn turn(&self, cx: &mut Context<'_>) {
        let [tokens, heads, wide] = self.turned.each;
        let rows = tokens * heads;
        let mut loads = Loads::new(cx, self.x.elem, rows, wide, 2);
        let mut angles = Loads::new(cx, Elem::F32, tokens, wide, 2);
        let mut stores = Stores::new(cx, self.out.elem, rows, wide, 2);
        let lists = [Elem::I32; 2].map(|elem| cx.ub(elem, rows, wide));
        let lists = Lists {
            neighbours: lists[0],
            cosines: lists[1],
            sines: cx.ub(Elem::I32, tokens, wide),
            signs: cx.ub(Elem::I32, 1, wide),
        };
        let [cosine, sine] = [(); 2].map(|()| cx.ub(Elem::F32, tokens, wide));
        let turned = cx.ub(Elem::F32, rows, wide);
        let mut listed = None;
        for number in cx.share(self.turned.pieces()) {
            let [(token, tokens), (head, heads), (col, cols)] = self.turned.piece(number);
            if listed != Some(cols) {
                self.list(cx, &lists, cols);
                listed = Some(cols);
            }
            let (row, rows) = (token * self.turned.sizes[1] + head, tokens * heads);
            let x = loads.load(cx, self.x.part(row, rows, self.front + col as u32, cols));
            let angle = angles.load(cx, self.angles.part(token, tokens, col as u32, cols));
            let out = stores.begin(cx, rows, cols);
            let [cosine, sine] = [cosine, sine].map(|tile| Tile { at: tile.at, ..angle });
            let turned = Tile { at: turned.at, ..x };
            let like = |list: Tile, tile: Tile| Tile { at: list.at, elem: list.elem, ..tile };
            cx.fused(|cx| {
                cx.gather(cosine, angle, like(lists.cosines, angle));
                cx.gather(sine, angle, like(lists.sines, angle));
                cx.xor(sine.of(Elem::I32), sine.of(Elem::I32), lists.signs.col_range(0, cols));
                cx.gather(turned, x, like(lists.neighbours, x));
                for (rows, angles) in groups(tokens, heads) {
                    let [x, turned, out] = [x, turned, out].map(|tile| rows.of(tile));
                    let [cosine, sine] =
                        [cosine, sine].map(|tile| angles.map_or(tile, |token| tile.row_range(token, 1)));
                    cx.mul(turned, turned, sine);
                    cx.mul(out, x, cosine);
                    cx.add(out, out, turned);
                }
            });
            loads.free(cx);
            angles.free(cx);
            stores.store(cx, out, self.out.part(row, rows, self.front + col as u32, cols));
        }
        loads.close(cx);
        angles.close(cx);
        stores.close(cx);
    }

    /// Fills the lists for rows of so many columns: places are counted row by row.
    fn list(&self, cx: &mut Context<'_>, lists: &Lists, cols: u32) {
        let [tokens, heads, _] = self.turned.each;
        let tile = |list: Tile, rows| Tile::rows_of(Space::Ub, list.at, Elem::I32, rows, cols);
        let (neighbours, cosines) = (tile(lists.neighbours, tokens * heads), tile(lists.cosines, tokens * heads));
        let signs = tile(lists.signs, 1);
        let begins = Tile::dense(Space::Ub, cosines.at, Elem::I32, 1, neighbours.rows);
        cx.ramp(begins, 0, cols as i32);
        cx.ramp(signs, 0, 1);
        cx.add(neighbours, Tile { rows: begins.cols, cols: 1, pitch: 1, ..begins }, signs);
        cx.and(cosines, neighbours, !1);
        cx.xor(neighbours, neighbours, 1);
        cx.or(tile(lists.sines, tokens), cosines.row_range(0, tokens), 1);
        cx.ramp(signs, i32::from(!self.inverse), 1);
        cx.shl(signs, signs, 31);
    }
}

/// Rows of a step that are computed at once.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    rows: u32,
    /// From row to row.
    apart: u32,
}

impl Group {
    fn of(self, tile: Tile) -> Tile {
        let Tile { pitch, .. } = tile;
        Tile { pitch: pitch * self.apart, ..tile.row_range(self.first, self.rows) }
    }
}

/// All heads of a token, with the token's number; or one head of all tokens, whichever are fewer instructions.
fn groups(tokens: u32, heads: u32) -> impl Iterator<Item = (Group, Option<u32>)> {
    let by_token = tokens <= heads;
    (0..tokens.min(heads)).map(move |one| match by_token {
        true => (Group { first: one * heads, rows: heads, apart: 1 }, Some(one)),
        false => (Group { first: one, rows: tokens, apart: heads }, None),
    })
}
