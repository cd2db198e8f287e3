use super::*;
use anychip_core::ops::KvCompress;

#[derive(Clone, Copy)]
struct Spec {
    overlap: bool,
    /// `m`, tokens of a window.
    ratio: usize,
    /// Elements of an entry.
    dim: usize,
    out: DType,
    /// Whether the states hold an earlier stretch, or are those of fresh sequences.
    carried: bool,
    sequences: usize,
    /// Sequence and position of each row.
    rows: &'static [(i32, i32)],
    closing: Closing,
    /// Mean of the gates.
    gate: f32,
    /// Of the values.
    family: Family,
}

#[derive(Clone, Copy)]
enum Closing {
    /// The rows that close a window.
    Windows,
    /// Those, one of them twice, rows that close none, -1 and rows that do not exist.
    Odd,
}

impl Spec {
    fn closing(&self) -> Vec<i32> {
        let ends = |&(_, p): &(i32, i32)| p >= 0 && (p as usize + 1).is_multiple_of(self.ratio);
        let windows = self.rows.iter().enumerate().filter(|(_, row)| ends(row)).map(|(t, _)| t as i32);
        match self.closing {
            Closing::Windows => windows.collect(),
            Closing::Odd => {
                let twice: Vec<i32> = windows.flat_map(|t| [t, t]).collect();
                [&[-1, 0, i32::MAX][..], &twice, &[i32::MIN, self.rows.len() as i32]].concat()
            }
        }
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let Spec { overlap, ratio, dim, sequences, .. } = *self;
        let (rows, channels) = (self.rows.len(), if overlap { 2 * dim } else { dim });
        let slots = if overlap { 2 * ratio } else { ratio };
        let kv = b.values(DType::F32, &[rows, channels], self.family, 1.0)?;
        let gates: Vec<f32> =
            Normal.fill(b.random(), rows * channels, channels).iter().map(|g| self.gate + 2.0 * g).collect();
        let gate = b.floats(DType::F32, &[rows, channels], &gates)?;
        let ape = b.values(DType::F32, &[ratio, channels], Normal, 1.0)?;
        let half = slots * channels;
        let mut state = vec![0.0; sequences * 2 * half];
        for (i, x) in state.iter_mut().enumerate() {
            let is_score = i / half % 2 == 1;
            *x = match (self.carried, is_score) {
                (false, false) => 0.0,
                (false, true) => f32::NEG_INFINITY,
                (true, false) => b.random().normal(),
                (true, true) => self.gate + 2.0 * b.random().normal(),
            };
        }
        let state = b.floats(DType::F32, &[sequences, 2, slots, channels], &state)?;
        let (sequence, position): (Vec<i32>, Vec<i32>) = self.rows.iter().copied().unzip();
        let [sequence, position] = [b.integers(&[rows], &sequence)?, b.integers(&[rows], &position)?];
        let closing = self.closing();
        let out = b.output(self.out, &[closing.len(), dim])?;
        let closing = b.integers(&[closing.len()], &closing)?;
        KvCompress { kv, gate, ape, state, sequence, position, closing, overlap, out }.build()
    }
}

/// `count` rows of sequence 0 from position 0.
const fn run<const N: usize>(first: i32) -> [(i32, i32); N] {
    let mut rows = [(0, 0); N];
    let mut i = 0;
    while i < N {
        rows[i] = (0, first + i as i32);
        i += 1;
    }
    rows
}

/// `N` rows of three sequences in turn, each from the middle of a window.
const fn in_turn<const N: usize>() -> [(i32, i32); N] {
    let mut rows = run::<N>(5);
    let mut i = 0;
    while i < N {
        rows[i] = (i as i32 % 3, 5 + i as i32 / 3);
        i += 1;
    }
    rows
}

pub(super) fn list(cases: &mut Cases) {
    const TEN: &[(i32, i32)] = &run::<10>(0);
    const PREFILL: &[(i32, i32)] = &run::<300>(0);
    /// A chunk of a long prompt.
    const CHUNK: &[(i32, i32)] = &run::<2048>(2);
    const IN_TURN: &[(i32, i32)] = &in_turn::<700>();
    /// Positions that go back, repeat, and skip the ends of windows.
    const UNORDERED: &[(i32, i32)] =
        &[(0, 3), (0, 2), (0, 7), (0, 5), (0, 5), (0, 11), (0, 3), (0, 0), (0, 9), (0, 7), (0, 15), (0, 4), (0, 15)];
    const ACROSS: &[(i32, i32)] = &run::<17>(3);
    const TWELVE: &[(i32, i32)] = &run::<12>(0);
    const SHORT_OF: &[(i32, i32)] = &run::<127>(0);
    const JUST: &[(i32, i32)] = &run::<128>(0);
    const PAST: &[(i32, i32)] = &run::<129>(0);
    /// From the middle of a window at a million to the end of the next but one.
    const FAR: &[(i32, i32)] = &run::<7>((1 << 20) - 6);
    const LATE: &[(i32, i32)] = &run::<3>((1 << 20) - 2);
    /// Three sequences at places of their own, and rows of sequences that there are not.
    const MIXED: &[(i32, i32)] = &[
        (0, 6),
        (0, 7),
        (2, 3),
        (1, 0),
        (-1, 3),
        (1, 1),
        (0, 8),
        (3, 7),
        (2, 4),
        (2, -1),
        (1, 2),
        (1, 3),
        (i32::MAX, 3),
    ];
    /// One token of each sequence, as in decoding: one closes a window.
    const DECODE: &[(i32, i32)] = &[(1, 11), (0, 13)];
    let plain = Spec {
        overlap: false,
        ratio: 4,
        dim: 24,
        out: DType::F32,
        carried: false,
        sequences: 1,
        rows: TEN,
        closing: Closing::Windows,
        gate: 0.0,
        family: Normal,
    };
    let overlap = Spec { overlap: true, ..plain };
    for (profile, variant, spec) in [
        (Quick, "fresh", plain),
        (Quick, "fresh", Spec { out: DType::BF16, ..overlap }),
        (Quick, "far", Spec { carried: true, rows: FAR, ..plain }),
        (Quick, "far", Spec { carried: true, rows: FAR, sequences: 2, ..overlap }),
        (Quick, "pooled", Spec { carried: true, ratio: 128, rows: LATE, dim: 40, ..plain }),
        (Quick, "mixed", Spec { carried: true, sequences: 3, rows: MIXED, closing: Closing::Odd, ..plain }),
        (Quick, "mixed", Spec { carried: true, sequences: 3, rows: MIXED, closing: Closing::Odd, ..overlap }),
        (Quick, "unordered", Spec { carried: true, rows: UNORDERED, ..plain }),
        (Quick, "unordered", Spec { carried: true, rows: UNORDERED, closing: Closing::Odd, ..overlap }),
        (Quick, "decode", Spec { carried: true, sequences: 3, rows: DECODE, out: DType::BF16, ..overlap }),
        // Scores of -1000: the softmax is of differences.
        (Quick, "low_scores", Spec { gate: -1000.0, carried: true, ..overlap }),
        (Quick, "no_rows", Spec { carried: true, rows: &[], closing: Closing::Odd, ..overlap }),
        // Windows that stay open: none is closed, one token is missing, one is too many.
        (Quick, "partial", Spec { rows: &[(0, 0), (0, 1), (0, 2)], ..plain }),
        (Quick, "partial", Spec { rows: &[(0, 4), (0, 5), (0, 6)], carried: true, ..overlap }),
        (Quick, "partial", Spec { ratio: 128, rows: SHORT_OF, dim: 17, ..plain }),
        (Quick, "partial", Spec { ratio: 128, rows: JUST, dim: 15, ..plain }),
        (Quick, "partial", Spec { ratio: 128, rows: PAST, dim: 16, ..plain }),
        (Quick, "partial", Spec { rows: ACROSS, dim: 31, carried: true, ..overlap }),
        (Quick, "offset", Spec { family: Offset, carried: true, dim: 33, ..overlap }),
        (Quick, "poisoned", Spec { family: Poisoned, rows: TWELVE, ..plain }),
        (Quick, "poisoned", Spec { family: Poisoned, rows: TWELVE, carried: true, ..overlap }),
        (Full, "far", Spec { dim: 128, rows: FAR, carried: true, sequences: 3, ..overlap }),
        (Full, "prefill", Spec { dim: 512, rows: PREFILL, out: DType::BF16, ..overlap }),
        (Full, "prefill", Spec { dim: 512, rows: PREFILL, ratio: 128, out: DType::BF16, ..plain }),
        (Full, "chunk", Spec { carried: true, dim: 64, rows: CHUNK, out: DType::BF16, ..overlap }),
        (Full, "chunk", Spec { carried: true, dim: 40, rows: CHUNK, ratio: 128, ..plain }),
        // Windows of more slots than kernels hold at a time.
        (Full, "chunk", Spec { carried: true, dim: 9, rows: CHUNK, ratio: 700, ..overlap }),
        (Full, "in_turn", Spec { carried: true, dim: 21, rows: IN_TURN, sequences: 4, closing: Closing::Odd, ..overlap }),
    ] {
        let form = if spec.overlap { "overlap" } else { "plain" };
        let Spec { ratio, dim, sequences, rows, out, .. } = spec;
        let name = format!("{form}/{variant}/{out}/m{ratio}-d{dim}-s{sequences}-t{}", rows.len());
        cases.add(profile, name, move |b| spec.build(b));
    }
}
