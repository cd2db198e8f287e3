//! `out[t,e] = sum_h (scale * weights[t,h]) * max(0, q[t,h] . k_e)` for the entries that row `t` may see, else -inf
//!
//! The cube multiplies a page's keys by the queries of a token, keys being rows: so each vector half has the sums over heads
//! of its own keys. Vectors unpack keys for it ahead. Tokens of one sequence that follow one another share the keys.

mod blocks;
mod cube;
mod scores;

use super::handoff::Post;
use super::operand::{Plan, Source};
use super::paged::{self, Operands, Room, Scope};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Tile};
use crate::kernel::{Context, Kernel};
use crate::layout::FRACTAL_ROWS;
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation, Rounding};
use anychip_core::{KvFormat, Numerics, PAGE_ENTRIES, Result, Support};

/// Keys of a block: a page.
const KEYS: u32 = PAGE_ENTRIES as u32;
/// Tokens that share keys at most.
const TOKENS: u32 = 8;
/// Bytes of a half of L0A or L0B.
const HALF: u32 = 32 << 10;
/// Bytes of L1 that the queries of a piece of work take at most, and keys of a block.
const QUERIES: u32 = 128 << 10;
const BLOCK: u32 = 64 << 10;
/// Buffers of keys in L1.
const BUFFERS: u32 = 3;
/// Bytes of UB for unpacking.
const UNPACKING: u32 = 80 << 10;

pub(crate) fn supports(op: &ops::IndexScores, npu: &Npu) -> Support {
    let support = paged::supported(&op.keys);
    if !support.is_native() {
        return support;
    }
    let sizes = Sizes::of(op, npu);
    let elem = sizes.elem;
    let (queries, keys) = (sizes.query_bytes(), fractals(elem, KEYS, sizes.dim));
    if op.out.count() == 0
        || (queries <= QUERIES && keys <= BLOCK && sizes.unpacked > 0 && (1..=4096).contains(&sizes.heads))
    {
        return Support::Native;
    }
    let got = format!("{} heads of {}", sizes.heads, sizes.dim);
    Support::unsupported("queries of a token", format!("{QUERIES} bytes, a page of keys {BLOCK}, 1 to 4096 heads"), got)
}

pub(crate) fn numerics(op: &ops::IndexScores, npu: &Npu) -> Numerics {
    // bf16 has no numbers as small as the smallest f32 that a code and its scale make.
    Numerics { flushes_subnormals: Sizes::of(op, npu).elem == Elem::BF16, ..Numerics::f32() }
}

fn fractals(elem: Elem, rows: u32, cols: u32) -> u32 {
    let (rows, cols) = (u64::from(rows), u64::from(cols));
    let row = elem.bytes(cols.next_multiple_of(elem.c0() as u64) as usize) as u64;
    // What is more than 32 bits count is more than any memory has.
    u32::try_from(rows.next_multiple_of(FRACTAL_ROWS as u64).saturating_mul(row)).unwrap_or(u32::MAX)
}

/// Sizes of a launch.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// What the cube multiplies.
    elem: Elem,
    tokens: u64,
    heads: u32,
    dim: u32,
    entries: u64,
    /// Tokens that share keys at most, and heads whose products are taken up at once.
    together: u32,
    heads_at_once: u32,
    /// Keys that are unpacked at once.
    unpacked: u32,
    /// Pages of a piece of work.
    pages: u64,
}

impl Sizes {
    fn of(op: &ops::IndexScores, npu: &Npu) -> Sizes {
        let format = op.keys.pool.format();
        let of_q = Plan { mx: false, ..Plan::of(npu, op.q.format(), op.q.format()) };
        let wide = match of_q.elem {
            Elem::F32 | Elem::F16 => Elem::F32,
            _ if matches!(format, KvFormat::F32 { .. }) || ue8m0(op) == Some(false) => Elem::F32,
            _ => Elem::BF16,
        };
        let (tokens, heads, dim) = (op.weights.size(0) as u64, op.weights.size(1) as u32, format.dim() as u32);
        // Room is counted for keys that L1 can hold.
        let held = fractals(wide, KEYS, dim) <= BLOCK;
        let room = held.then(|| Room::of([format].into_iter(), wide, npu.is_950()));
        let mut sizes = Sizes {
            elem: wide,
            tokens,
            heads,
            dim,
            entries: op.out.size(1) as u64,
            together: 1,
            heads_at_once: heads.clamp(1, 64),
            unpacked: [32, 16, 8]
                .into_iter()
                .find(|&keys| room.is_some_and(|room| room.bytes(keys, [2, 2]) + 2 * keys * room.scales <= UNPACKING))
                .unwrap_or(0),
            pages: 1,
        };
        sizes.together = (QUERIES / sizes.query_bytes().max(1)).clamp(1, TOKENS).min(tokens.max(1) as u32);
        // Enough pieces for all cores, twice where there are as many pages.
        let groups = tokens.div_ceil(sizes.together.into()).max(1);
        let cores = npu.profile().figures.cube_cores as u64;
        sizes.pages = sizes.all_pages().div_ceil((2 * cores).div_ceil(groups)).max(1);
        sizes
    }

    fn all_pages(&self) -> u64 {
        self.entries.div_ceil(KEYS.into())
    }

    /// Bytes of a token's queries in L1.
    fn query_bytes(&self) -> u32 {
        fractals(self.elem, self.heads, self.dim)
    }

    fn key_bytes(&self) -> u32 {
        fractals(self.elem, KEYS, self.dim)
    }

    /// Elements along which queries and keys are multiplied at once.
    fn depth(&self) -> u32 {
        let wide = KEYS.max(self.heads_at_once.next_multiple_of(16)) * self.elem.bits() as u32 / 8;
        HALF / wide / 16 * 16
    }

    /// Groups of heads: the first, and how many.
    fn parts(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let Sizes { heads, heads_at_once, .. } = *self;
        (0..heads).step_by(heads_at_once as usize).map(move |first| (first, heads_at_once.min(heads - first)))
    }

    fn score_bytes(&self) -> u32 {
        Tile::rows_of(Space::Ub, 0, Elem::F32, KEYS / 2, self.heads_at_once).end().next_multiple_of(32) as u32
    }
}

/// Whether scales of the queries are powers of two; `None` where they have none.
fn ue8m0(op: &ops::IndexScores) -> Option<bool> {
    op.q.format().layout().map(|layout| layout.scale == anychip_core::ScaleType::Ue8m0)
}

pub(crate) fn run(op: &ops::IndexScores, npu: &Npu) -> Result<()> {
    if op.out.count() == 0 {
        return Ok(());
    }
    let sizes = Sizes::of(op, npu);
    let plan = Plan { elem: sizes.elem, mx: false };
    let q = Source::rows(&op.q, 1).ready(ops::IndexScores::NAME, npu, plan)?;
    let (weights, visible) = (read(&op.weights)?, read(&op.visible)?);
    let operands = Operands::of(&op.keys, None)?;
    let mut out = write(&op.out)?;
    let mut gm = Gm::default();
    let (tokens, heads) = (sizes.tokens as u32, sizes.heads);
    let mut kernel = IndexScores {
        sizes,
        q: q.add(&mut gm, ["q", "q scales"]).codes,
        weights: Global::new(gm.input("weights", weights.bytes()), 0, elem(&op.weights), tokens, heads),
        scale: op.scale,
        rounded: op.rounding == Rounding::Bf16,
        scope: Scope::new(&mut gm, &op.keys, &operands, 0, 0),
        visible: gm.input("visible", visible.bytes()),
        out: Global::new(gm.output("out", out.bytes_mut()), 0, Elem::F32, tokens, sizes.entries as u32),
        cores: 1,
        keys: Post { flag: 0, at: 0, bytes: sizes.key_bytes(), depth: BUFFERS as usize, through: None },
        scores: Post { flag: 2, at: 0, bytes: sizes.score_bytes(), depth: 2, through: None },
    };
    kernel.cores = (kernel.items() as usize).clamp(1, npu.profile().figures.cube_cores as usize);
    let bytes = u64::from(KEYS * sizes.dim) * sizes.elem.bits() as u64 / 8;
    let mut take = |name, bytes| Some((gm.scratch(name, Post::scratch_bytes(bytes, kernel.cores)), bytes));
    if !(npu.is_950() && paged::part_fits(op.keys.pool.format(), sizes.elem)) {
        kernel.keys.through = take("keys", bytes);
    }
    if !npu.is_950() {
        kernel.scores.through = take("scores", u64::from(KEYS * sizes.heads_at_once) * 4);
    }
    npu.launch(ops::IndexScores::NAME, &kernel, &gm)
}

struct IndexScores {
    sizes: Sizes,
    q: Global,
    weights: Global,
    scale: f32,
    /// Whether each step is rounded to bf16.
    rounded: bool,
    scope: Scope,
    visible: u16,
    out: Global,
    cores: usize,
    keys: Post,
    scores: Post,
}

impl IndexScores {
    /// What scores are between cube and vectors.
    fn products(&self) -> Elem {
        if self.rounded { Elem::BF16 } else { Elem::F32 }
    }
}

impl Kernel for IndexScores {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        cube::cube(cx, self);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        scores::vector(cx, self);
    }
}
