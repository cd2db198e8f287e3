use super::*;
use crate::builder::{Stretch, lists};
use anychip_core::ops::{KeyScope, Rounding, SparseAttention};

#[derive(Clone, Copy)]
struct Spec {
    q: DType,
    out: DType,
    heads: usize,
    rounding: Rounding,
    /// Family and size of queries and of keys.
    q_values: (Family, f32),
    k_values: (Family, f32),
    /// Sequence of each row.
    sequence: &'static [i32],
    scopes: &'static [Scope],
    sink: Sink,
    lists: Lists,
    /// Pages that belong to nobody.
    spare: usize,
}

/// A pool and the width of the lists into it.
#[derive(Clone, Copy)]
struct Scope {
    format: KvFormat,
    stretches: &'static [Stretch],
    width: usize,
}

#[derive(Clone, Copy)]
enum Sink {
    Normal,
    /// Each head's own: so large that nothing else is left, about the others' size, none at all.
    Mixed,
    /// Normal around the scores of `low_scores`.
    Around(f32),
}

#[derive(Clone, Copy, PartialEq)]
enum Lists {
    /// Most places name an entry, others are -1 or lie outside.
    Random,
    /// The same, and every second row's list names nothing.
    EmptyRows,
    /// One entry over and over.
    Repeated,
    /// No row's list names anything.
    Empty,
    /// The entries that there are, in order, and then -1: a window before it is full.
    Filling,
}

impl Spec {
    fn scope(&self, b: &mut Builder<'_>, scope: &Scope) -> Result<KeyScope> {
        let Scope { format, stretches, width } = *scope;
        let (rows, (family, size)) = (self.sequence.len(), self.k_values);
        let kv = b.paged_among(self.spare, format, stretches, self.sequence, family, size)?;
        let mut entries = lists(b.random(), stretches, self.sequence, width);
        for (row, list) in entries.chunks_mut(width.max(1)).enumerate() {
            match self.lists {
                Lists::Empty => list.fill(-1),
                Lists::Filling => {
                    let sequence = usize::try_from(self.sequence[row]).unwrap_or(usize::MAX);
                    let Stretch { start, len } = stretches.get(sequence).copied().unwrap_or(from(0, 0));
                    let entry = |i: usize| if i < len { (start + i) as i32 } else { -1 };
                    list.iter_mut().enumerate().for_each(|(i, e)| *e = entry(i));
                }
                Lists::EmptyRows if row % 2 == 0 => list.fill(-1),
                Lists::Repeated => {
                    let names_one = |e: &i32| (0..i32::MAX).contains(e);
                    let one = list.iter().copied().find(names_one).unwrap_or(-1);
                    list.iter_mut().filter(|e| names_one(e)).for_each(|e| *e = one);
                }
                _ => {}
            }
        }
        Ok(KeyScope { kv, entries: b.integers(&[rows, width], &entries)? })
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let (rows, heads, dim) = (self.sequence.len(), self.heads, self.scopes[0].format.dim());
        let (family, size) = self.q_values;
        let q = b.values(self.q, &[rows, heads, dim], family, size)?;
        let mut scopes = Vec::new();
        for scope in self.scopes {
            scopes.push(self.scope(b, scope)?);
        }
        let sinks: Vec<f32> = match self.sink {
            Sink::Normal => Normal.fill(b.random(), heads, heads),
            Sink::Around(mean) => Normal.fill(b.random(), heads, heads).iter().map(|x| x + mean).collect(),
            Sink::Mixed => (0..heads).map(|h| [1000.0, 0.5, f32::NEG_INFINITY][h % 3]).collect(),
        };
        let sink = b.floats(DType::F32, &[heads], &sinks)?;
        let out = b.output(self.out, &[rows, heads, dim])?;
        let scale = (dim as f32).sqrt().recip();
        SparseAttention { q, scopes, sink, scale, rounding: self.rounding, out }.build()
    }
}

const FLASH: KvFormat = KvFormat::Fp8 { nope: 448, rope: 64 };
const SHORT: KvFormat = KvFormat::Fp8 { nope: 80, rope: 16 };
const SMALL: KvFormat = KvFormat::F32 { dim: 32 };
const FP4: KvFormat = KvFormat::Fp4 { dim: 48 };

const fn from(start: usize, len: usize) -> Stretch {
    Stretch { start, len }
}

const fn scope(format: KvFormat, stretches: &'static [Stretch], width: usize) -> Scope {
    Scope { format, stretches, width }
}

const WINDOW: &[Scope] = &[scope(SMALL, &[from(0, 100), from(0, 7)], 40)];
/// A whole page and one entry, one page and the next one's first entry, and a sequence without entries.
const BOTH: &[Scope] = &[scope(SMALL, &[from(0, 64), from(0, 3)], 9), scope(SMALL, &[from(0, 65), from(0, 0)], 70)];
const FAR: &[Scope] = &[scope(SHORT, &[from(250_000, 130), from(9, 1)], 33)];
const NO_PLACES: &[Scope] = &[scope(SMALL, &[from(0, 1), from(0, 1)], 0)];
const PACKED: &[Scope] = &[scope(FP4, &[from(0, 70), from(0, 70)], 20)];
/// Lists of more than two blocks of the running maximum, which also goes on from scope to scope.
const SERVED: &[Scope] =
    &[scope(FLASH, &[from(0, 90), from(65, 130)], 128), scope(FLASH, &[from(0, 20), from(0, 70)], 70)];
const SERVED_SHORT: &[Scope] = &[scope(SHORT, &[from(0, 64), from(64, 64)], 200)];
/// V4's window and compressed entries in the first tokens of two sequences: much shorter than the lists.
const FILLING: &[Scope] =
    &[scope(FLASH, &[from(0, 5), from(0, 100)], 128), scope(FLASH, &[from(0, 1), from(0, 25)], 32)];
const UNEQUAL: &[Scope] = &[scope(SMALL, &[from(0, 1), from(0, 64), from(0, 65), from(0, 300), from(0, 0)], 40)];
/// Positions up to 2^20, and the entries that their compressed ones come to.
const FARTHEST: &[Scope] = &[
    scope(SMALL, &[from((1 << 20) - 128, 128), from(5, 2)], 33),
    scope(SMALL, &[from((1 << 18) - 90, 90), from(0, 1)], 40),
];
const POOL: &[Stretch] = &[from(0, 150), from(30, 40)];
/// Either side of the blocks that lists are cut into.
const TILES: [&[Scope]; 9] = [
    &[scope(SMALL, POOL, 15)],
    &[scope(SMALL, POOL, 16)],
    &[scope(SMALL, POOL, 17)],
    &[scope(SMALL, POOL, 31)],
    &[scope(SMALL, POOL, 33)],
    &[scope(SMALL, POOL, 63)],
    &[scope(SMALL, POOL, 65)],
    &[scope(SMALL, POOL, 127)],
    &[scope(SMALL, POOL, 129)],
];
const SERVED_TILES: [&[Scope]; 5] = [
    &[scope(SHORT, POOL, 63)],
    &[scope(SHORT, POOL, 64)],
    &[scope(SHORT, POOL, 65), scope(SHORT, POOL, 62)],
    &[scope(SHORT, POOL, 128)],
    &[scope(SHORT, POOL, 1), scope(SHORT, POOL, 128)],
];
/// V4-Pro at the end of its context: the window and a thousand of 2^18 compressed entries.
const PRO: &[Scope] =
    &[scope(FLASH, &[from((1 << 20) - 128, 128)], 128), scope(FLASH, &[from((1 << 18) - 3000, 3000)], 1024)];
/// V4's heavily compressed attention at the end of a million tokens, and of two.
const WHOLE: &[Scope] = &[scope(FLASH, &[from((1 << 20) - 128, 128)], 128), scope(FLASH, &[from(0, 8192)], 8192)];
const TWICE: &[Scope] = &[scope(FLASH, &[from((1 << 21) - 128, 128)], 128), scope(FLASH, &[from(0, 16384)], 16384)];
const BEYOND: &[Scope] = &[scope(FLASH, &[from(0, 300), from(64, 200)], 128)];
const LONG: &[Scope] =
    &[scope(FLASH, &[from(1_000_000, 128), from(0, 100)], 128), scope(FLASH, &[from(0, 4000), from(0, 25)], 512)];

pub(super) fn list(cases: &mut Cases) {
    let exact = Spec {
        q: DType::F32,
        out: DType::F32,
        heads: 4,
        rounding: Rounding::None,
        q_values: (Normal, 1.0),
        k_values: (Normal, 1.0),
        sequence: &[0, 0, 1, 0, 1],
        scopes: WINDOW,
        sink: Sink::Normal,
        lists: Lists::Random,
        spare: 2,
    };
    let served = Spec {
        q: DType::BF16,
        out: DType::BF16,
        heads: 8,
        rounding: Rounding::Bf16,
        q_values: (Normal, 2.0),
        sequence: &[1, 0, 1],
        scopes: SERVED,
        ..exact
    };
    let served_small = Spec { q: DType::F32, scopes: WINDOW, ..served };
    let short = Spec { out: DType::F32, scopes: SERVED_SHORT, k_values: (Outliers, 0.2), ..served };
    for (profile, variant, spec) in [
        (Quick, "window", exact),
        (Quick, "empty_rows", Spec { lists: Lists::EmptyRows, sequence: &[0, 1, -1, 2, 1], ..exact }),
        (Quick, "repeated", Spec { lists: Lists::Repeated, sink: Sink::Mixed, heads: 3, ..exact }),
        (Quick, "two_scopes", Spec { scopes: BOTH, k_values: (Quiet, 1.0), ..exact }),
        // All scores near -360: nothing but their differences counts.
        (
            Quick,
            "low_scores",
            Spec { q_values: (Offset, -1.0), k_values: (Offset, 1.0), sink: Sink::Around(-355.0), ..exact },
        ),
        (Quick, "far", Spec { scopes: FAR, ..exact }),
        (Quick, "packed", Spec { scopes: PACKED, ..exact }),
        (Quick, "no_places", Spec { scopes: NO_PLACES, ..exact }),
        (Quick, "served", served),
        (Quick, "served_exact", Spec { rounding: Rounding::None, sink: Sink::Mixed, ..served }),
        (Quick, "served", Spec { lists: Lists::EmptyRows, sequence: &[1, 0, 1, 5], ..short }),
        (Full, "served", Spec { heads: 64, scopes: LONG, sequence: &[0, 1], ..served }),
        (Full, "served", Spec { heads: 128, scopes: PRO, sequence: &[0], ..served }),
        (Full, "served", Spec { heads: 2, scopes: WHOLE, sequence: &[0], ..served }),
        (Full, "served_exact", Spec { heads: 2, scopes: TWICE, sequence: &[0], rounding: Rounding::None, ..served }),
        (Full, "filling", Spec { heads: 64, scopes: FILLING, lists: Lists::Filling, sequence: &[0, 1], ..served }),
        (Quick, "nothing", Spec { lists: Lists::Empty, ..exact }),
        (Quick, "nothing", Spec { lists: Lists::Empty, scopes: BOTH, ..served_small }),
        (Quick, "filling", Spec { heads: 2, scopes: FILLING, lists: Lists::Filling, sequence: &[0, 1], ..served }),
        (Quick, "unequal", Spec { scopes: UNEQUAL, sequence: &[0, 1, 2, 3, 4, 3], ..exact }),
        (Quick, "far", Spec { scopes: FARTHEST, ..exact }),
        // All scores near -1000.
        (
            Quick,
            "lowest_scores",
            Spec { q_values: (Offset, -2.76), k_values: (Offset, 1.0), sink: Sink::Around(-1000.0), ..exact },
        ),
        // Queries with a NaN, queries with an infinity, and rows that have no keys for them.
        (
            Quick,
            "poisoned",
            Spec { q_values: (Poisoned, 1.0), lists: Lists::EmptyRows, sequence: &[0, 1, 0, 1], ..exact },
        ),
        // Keys at both ends of their scales, and queries that bring the scores back.
        (Quick, "large_keys", Spec { q_values: (Normal, 1e-30), k_values: (Normal, 1e30), scopes: FAR, ..exact }),
        (Quick, "small_keys", Spec { q_values: (Normal, 1e30), k_values: (Normal, 1e-30), ..exact }),
    ]
    .into_iter()
    .chain(TILES.map(|scopes| (Quick, "tile", Spec { scopes, sequence: &[0, 1, 0], heads: 3, ..exact })))
    .chain(SERVED_TILES.map(|scopes| (Quick, "tile", Spec { scopes, sequence: &[1, 0], heads: 3, ..short })))
    {
        let widths: Vec<String> = spec.scopes.iter().map(|s| format!("{}.n{}", kv_tag(s.format), s.width)).collect();
        let Spec { q, out, heads, sequence, .. } = spec;
        let name = format!("{variant}/{q}-{out}/{}/t{}-h{heads}", widths.join("-"), sequence.len());
        cases.add(profile, name, move |b| spec.build(b));
    }
    let spare = BEYOND_2GIB / FLASH.page_bytes();
    let spec = Spec { scopes: BEYOND, sequence: &[0, 1], spare, ..served };
    cases.beyond_2gib(format!("bf16-bf16/{}.n128/t2-h{}", kv_tag(FLASH), spec.heads), move |b| spec.build(b));
}
