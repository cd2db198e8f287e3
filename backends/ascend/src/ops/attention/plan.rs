//! Sizes of tiles and places of buffers, as far as the memories of a core have room.

use crate::device::Npu;
use crate::isa::{Elem, Global, Tile};
use crate::machine::{Profile, Space};
use crate::ops::handoff::Post;
use crate::ops::paged::{Feeding, Room};
use crate::sim::{Gm, capacity};

/// Bytes of half of L0A or L0B: products and transfers take turns in them.
const HALF: u32 = 32 << 10;
/// Bytes of results that a vector half carries at most.
const CARRIED: u32 = 64 << 10;
/// Buffers of results in UB.
const RESULTS: usize = 2;
/// Bytes of UB for what is small.
const SMALL: u32 = 1 << 10;
/// Columns of results that come at once, and parts in which keys are unpacked: the best first. Wide results come in fewer
/// transfers.
const CHOICES: [(u32, u32); 8] = [(256, 1), (256, 2), (128, 1), (128, 2), (128, 4), (64, 4), (32, 4), (16, 4)];
/// Blocks whose scales threads gather at once.
const STRETCHES: [u32; 2] = [4, 2];
/// Flags between cube and vectors, each with the next one the other way.
const FLAGS: [u8; 4] = [0, 2, 4, 6];

/// What an operation asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Needs {
    /// What the cube multiplies.
    pub(in crate::ops) elem: Elem,
    /// Elements of queries and keys.
    pub(in crate::ops) dim: u32,
    /// Elements of values.
    pub(in crate::ops) value: u32,
    /// Whether keys are the values.
    pub(in crate::ops) shared: bool,
    /// Rows of queries that there are to a key.
    pub(in crate::ops) rows: u32,
    /// Keys of a block at most; fixed where the definition says how many share a maximum.
    pub(in crate::ops) keys: u32,
    /// Whether blocks must be as long.
    pub(in crate::ops) fixed: bool,
    /// What the result's elements are.
    pub(in crate::ops) out: Elem,
    /// Heads, which sinks are given for.
    pub(in crate::ops) heads: u32,
    /// Room in UB that unpacking takes; none where keys come from global memory.
    pub(in crate::ops) unpacking: Option<Room>,
    /// Whether threads may gather scales.
    pub(in crate::ops) threads: bool,
    /// Whether unpacked keys may go to L1 as they lie.
    pub(in crate::ops) direct: bool,
}

/// Sizes and places.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Plan {
    pub(in crate::ops) needs: Needs,
    /// Rows of queries at most.
    pub(in crate::ops) rows: u32,
    /// Keys of a block at most, which share a maximum.
    pub(in crate::ops) keys: u32,
    /// Keys that are multiplied at once.
    pub(in crate::ops) part: u32,
    /// Buffers of keys in L1, and of values: none where keys are the values.
    pub(in crate::ops) buffers: usize,
    pub(in crate::ops) value_buffers: usize,
    /// Buffers of queries. That one is free again follows from those of keys.
    pub(in crate::ops) query_buffers: usize,
    /// Blocks that `S` is ahead of `O`.
    pub(in crate::ops) ahead: usize,
    /// Columns of results that go to the vectors at once.
    pub(in crate::ops) piece: u32,
    /// How keys are unpacked.
    pub(in crate::ops) feeding: Feeding,
    /// Factor of the scores.
    pub(in crate::ops) scale: f32,
    /// Whether weights are rounded to bf16.
    pub(in crate::ops) rounded: bool,
    /// Sink scores, one a head.
    pub(in crate::ops) sink: Option<Global>,
    /// Scores, weights and results on their way between cube and vectors; and keys.
    pub(in crate::ops) scores: Post,
    pub(in crate::ops) weights: Post,
    pub(in crate::ops) results: Post,
    pub(in crate::ops) fed: Option<Post>,
    /// Buffers in L0C of scores, and as many of results; bytes of one of results.
    pub(in crate::ops) sums: usize,
    pub(in crate::ops) result_sums: u32,
}

/// Bytes of fractals; what is more than 32 bits count is more than any memory has.
fn fractals(elem: Elem, rows: u32, cols: u32) -> u32 {
    let (rows, cols) = (u64::from(rows), u64::from(cols));
    bytes(rows.next_multiple_of(16).saturating_mul(elem.bytes(cols.next_multiple_of(elem.c0() as u64) as usize) as u64))
}

fn rows_of(elem: Elem, rows: u32, cols: u32) -> u32 {
    bytes(Tile::rows_of(Space::Ub, 0, elem, rows, cols).end().saturating_add(31) / 32 * 32)
}

fn bytes(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Bytes of L0C for scores of so many keys.
fn score_sums(rows: u32, keys: u32) -> u32 {
    rows.next_multiple_of(16) * keys.next_multiple_of(16) * 4
}

impl Plan {
    /// The largest tiles that fit, or `None` where even the smallest do not.
    pub(in crate::ops) fn new(profile: &Profile, needs: Needs) -> Option<Plan> {
        // Keys that lie in global memory are loaded for each tile of rows.
        let most = match needs.unpacking {
            _ if needs.elem == Elem::F32 => 32,
            None => 128,
            Some(_) => 64,
        };
        let rows = [128, 64, 32, 16].map(|rows| rows.min(most).min(needs.rows.max(1)).next_multiple_of(16));
        let keys: &[u32] = if needs.fixed { &[needs.keys] } else { &[needs.keys, 128, 64, 32, 16] };
        let least = needs.keys.checked_next_multiple_of(16).unwrap_or(u32::MAX);
        let keys = keys.iter().copied().filter(|&keys| keys <= least);
        let keys: Vec<u32> = keys.collect();
        // Rather two buffers of keys with fewer of them than one with more.
        [2, 1].into_iter().find_map(|least| {
            rows.iter().find_map(|&rows| {
                keys.iter().find_map(|&keys| Plan::of(profile, needs, rows, keys).filter(|plan| plan.buffers >= least))
            })
        })
    }

    fn of(profile: &Profile, needs: Needs, rows: u32, keys: u32) -> Option<Plan> {
        let Needs { elem, dim, value, .. } = needs;
        let room = |space| capacity(profile, space) as u32;
        let (own, direct) = (rows.div_ceil(2), profile.arch == crate::machine::Arch::V3510);
        // L1: keys and values from block to block, queries from one piece of work to the next, weights.
        let key = fractals(elem, keys, dim);
        let values = if needs.shared { 0 } else { fractals(elem, keys, value) };
        let (q, p) = (fractals(elem, rows, dim), fractals(elem, rows, keys));
        // Keys that are the values stay until these are multiplied, others until their scores are.
        let choices: &[(u32, u32, usize, u32)] = if needs.shared {
            &[(4, 0, 2, 2), (3, 0, 1, 2), (2, 0, 1, 1), (1, 0, 0, 1)]
        } else {
            &[(2, 2, 2, 2), (1, 1, 0, 1)]
        };
        let l1 = u64::from(room(Space::L1));
        let &(buffers, value_buffers, ahead, query_buffers) = choices.iter().find(|(k, v, _, queries)| {
            let bytes = [(*k, key), (*v, values), (*queries, q), (2, p)];
            bytes.into_iter().map(|(count, bytes)| u64::from(count) * u64::from(bytes)).sum::<u64>() <= l1
        })?;
        // L0C: scores of two parts, two pieces of results of as many columns as fit. Of one each where they go out to global
        // memory, in longer rows.
        let parts = [(128, if direct { 2 } else { 1 }), (64, 2), (32, 2), (16, 2)];
        let (part, sums, result_sums) = parts.into_iter().find_map(|(part, sums)| {
            let part = keys.min(part);
            let left = room(Space::L0c).checked_sub(sums * score_sums(rows, part))?;
            let result_sums = left / sums / 1024 * 1024;
            (result_sums >= rows.next_multiple_of(16) * 64).then_some((part, sums as usize, result_sums))
        })?;
        // UB.
        let depth = if direct { 2 } else { 1 };
        let scores = rows_of(Elem::F32, own, keys);
        let carried = rows_of(Elem::F32, own, value);
        if carried > CARRIED {
            return None;
        }
        let narrow = if elem == Elem::F32 { scores / 2 } else { 0 };
        let fixed = [(depth, scores), (1, carried), (1, rows_of(elem, own, keys)), (1, narrow)];
        let fixed = fixed.into_iter().chain([(64, own), (16, keys), (4, needs.heads)]);
        let fixed: u64 = fixed.map(|(count, bytes)| u64::from(count) * u64::from(bytes)).sum();
        // Scores and results that come through global memory take flags of the engines that bring keys.
        let flags = usize::from(crate::kernel::FLAGS) - if direct { 0 } else { depth as usize + RESULTS };
        let beside_threads = (profile.figures.ub_threads as u32).min(room(Space::Ub));
        let (piece, feeding) = CHOICES.into_iter().find_map(|(piece, parts)| {
            let piece = value.next_multiple_of(16).min(piece);
            let feedings = STRETCHES.map(|stretch| Feeding::new(keys, parts, needs.threads, stretch).within(flags));
            let feeding = feedings.into_iter().find(|feeding| {
                let unpacking = needs.unpacking.map_or(0, |room| feeding.bytes(&room, ahead, keys));
                let all = if feeding.threads() { beside_threads } else { room(Space::Ub) };
                let moving = u64::from(RESULTS as u32 * rows_of(Elem::F32, own, piece) + SMALL);
                fixed + moving + u64::from(unpacking) <= u64::from(all)
            })?;
            Some((piece, feeding))
        })?;
        let post = |flag: usize, at: u32, bytes: u32, depth: u32| Post {
            flag: FLAGS[flag],
            at,
            bytes,
            depth: depth as usize,
            through: None,
        };
        let fed = needs.unpacking.is_some().then(|| post(3, 0, key, buffers));
        Some(Plan {
            needs,
            rows,
            keys,
            part,
            buffers: buffers as usize,
            value_buffers: value_buffers as usize,
            query_buffers: query_buffers as usize,
            ahead,
            piece,
            feeding,
            scale: 1.0,
            rounded: false,
            sink: None,
            scores: post(0, 0, scores, depth),
            weights: post(1, buffers * key + value_buffers * values, p, 2),
            results: post(2, depth * scores, rows_of(Elem::F32, own, piece), RESULTS as u32),
            fed,
            sums,
            result_sums,
        })
    }

    /// Takes the memory that the launch needs beside its operands.
    pub(in crate::ops) fn with_memory(mut self, npu: &Npu, gm: &mut Gm<'_>, cores: usize) -> Plan {
        let es = self.needs.elem.bits() as u64 / 8;
        let (rows, keys) = (u64::from(self.rows), u64::from(self.keys));
        let mut take = |name: &'static str, bytes: u64, wanted: bool| {
            wanted.then(|| (gm.scratch(name, Post::scratch_bytes(bytes, cores)), bytes))
        };
        let through = !npu.is_950();
        self.scores.through = take("scores", rows * keys * 4, through);
        self.weights.through = take("weights", rows * keys * es, through);
        self.results.through = take("results", rows * u64::from(self.piece) * 4, through);
        if let Some(fed) = &mut self.fed {
            fed.through = take("keys", keys * u64::from(self.needs.dim) * es, !self.needs.direct);
        }
        self
    }

    /// Bytes of a block's keys in L1.
    pub(super) fn key_bytes(&self) -> u32 {
        fractals(self.needs.elem, self.keys, self.needs.dim)
    }

    /// Bytes of its values, if they are others.
    pub(super) fn value_bytes(&self) -> u32 {
        fractals(self.needs.elem, self.keys, self.needs.value)
    }

    pub(super) fn query_bytes(&self) -> u32 {
        fractals(self.needs.elem, self.rows, self.needs.dim)
    }

    pub(super) fn score_sums(&self) -> u32 {
        score_sums(self.rows, self.part)
    }

    /// Elements along which queries and keys are multiplied at once.
    pub(super) fn depth(&self) -> u32 {
        HALF / (self.rows.max(self.part).next_multiple_of(16) * self.needs.elem.bits() as u32 / 8) / 16 * 16
    }

    /// Columns of values that are multiplied at once.
    pub(super) fn width(&self) -> u32 {
        let part = self.part.next_multiple_of(16) * self.needs.elem.bits() as u32 / 8;
        let most = (HALF / part).min(self.result_sums / (4 * self.rows.next_multiple_of(16)));
        most / 16 * 16
    }

    /// Keys of a block that are multiplied at once: the first, and how many.
    pub(super) fn parts(&self, keys: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let part = self.part;
        (0..keys).step_by(part as usize).map(move |first| (first, part.min(keys - first)))
    }

    /// Columns of results that go to the vectors at once: the first, and how many.
    pub(super) fn pieces(&self) -> Vec<(u32, u32)> {
        let (all, width, mut pieces) = (self.needs.value, self.width(), Vec::new());
        for first in (0..all).step_by(width as usize) {
            let width = width.min(all - first);
            let piece = self.piece;
            pieces.extend((0..width).step_by(piece as usize).map(|col| (first + col, piece.min(width - col))));
        }
        pieces
    }

    pub(super) fn half(&self) -> u32 {
        HALF
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn needs(dim: u32, value: u32) -> Needs {
        Needs {
            elem: Elem::F32,
            dim,
            value,
            shared: false,
            rows: 64,
            keys: 64,
            fixed: false,
            out: Elem::F32,
            heads: 4,
            unpacking: None,
            threads: false,
            direct: true,
        }
    }

    /// 32 rows of 2^22 f32 have 2^32 bits, which 32 bits count as none.
    #[test]
    fn heads_of_any_size_are_counted() {
        for name in ["950dt", "910b"] {
            let profile = Profile::open(name).unwrap();
            assert!(Plan::new(&profile, needs(64, 64)).is_some());
            for large in [1 << 22, 1 << 26, u32::MAX] {
                assert!(Plan::new(&profile, needs(large, 64)).is_none(), "{name}: {large}");
                assert!(Plan::new(&profile, needs(64, large)).is_none(), "{name}: {large}");
                assert!(
                    Plan::new(&profile, Needs { heads: large, ..needs(64, 64) }).is_none(),
                    "{name}: {large} heads"
                );
                assert!(Plan::new(&profile, Needs { keys: large, rows: large, ..needs(64, 64) }).is_some(), "{name}");
            }
        }
    }
}
