use crate::attention::{BLOCK, Head, heads_per_task};
use crate::load::{Floats, Stores, Work, par_rows};
use crate::pages::{Entry, PagedReader};
use anychip_core::ops::{KeyScope, Rounding, SparseAttention};
use anychip_core::{Result, host};

/// `out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m))`
pub(crate) fn run(op: &SparseAttention) -> Result<()> {
    let (rows, heads, dim) = (op.q.size(0), op.q.size(1), op.q.size(2));
    let (q, sink) = (Floats::of(&op.q)?, host::read(&op.sink)?);
    let sink: &[f32] = sink.as_slice();
    let scopes = op.scopes.iter().map(Scope::of).collect::<Result<Vec<_>>>()?;
    let attend = |keys: &Keys<'_>, q: &[f32], first: usize, acc: &mut [f32]| {
        let mut states = vec![Head::EMPTY; acc.len() / dim];
        acc.fill(0.0);
        // Block by block over all heads: the block stays in the cache.
        for (count, block) in keys.blocks(dim) {
            for (state, (q, acc)) in states.iter_mut().zip(q.chunks(dim).zip(acc.chunks_mut(dim))) {
                state.add(q, op.scale, count, (block, block), op.rounding, acc);
            }
        }
        for ((state, acc), sink) in states.into_iter().zip(acc.chunks_mut(dim)).zip(&sink[first..]) {
            state.finish(Some(*sink), acc);
        }
    };
    let share = heads_per_task(rows, heads);
    let work = Work::of(op);
    let mut out = Stores::of(&op.out)?;
    if share == heads {
        let scratch = || (Keys::default(), Vec::new());
        out.rows(0..rows, heads * dim, work, scratch, |(keys, q_row), t, acc| {
            keys.list(&scopes, t, op.rounding);
            keys.vectors.resize(keys.entries.len() * dim, 0.0);
            keys.vectors.chunks_mut(dim).zip(&keys.entries).for_each(|(vector, entry)| entry.read(vector));
            attend(keys, q.view(t * heads * dim, heads * dim, q_row), 0, acc);
        });
        return Ok(());
    }
    // Fewer rows than threads: each row's keys are gathered by all of them, and then its heads are shared out.
    let (mut keys, mut q_row) = (Keys::default(), Vec::new());
    for t in 0..rows {
        keys.list(&scopes, t, op.rounding);
        let Keys { entries, vectors, .. } = &mut keys;
        vectors.resize(entries.len() * dim, 0.0);
        par_rows(vectors, dim, Work::Each(dim), || (), |(), j, vector| entries[j].read(vector));
        let q = q.view(t * heads * dim, heads * dim, &mut q_row);
        let tasks = heads / share;
        out.rows(
            t * tasks..(t + 1) * tasks,
            share * dim,
            work,
            || (),
            |(), task, acc| {
                let first = (task - t * tasks) * share;
                attend(&keys, &q[first * dim..], first, acc);
            },
        );
    }
    Ok(())
}

/// A pool and the lists of entries in it.
struct Scope<'a> {
    kv: PagedReader<'a>,
    lists: host::Read<'a>,
    places: usize,
}

impl<'a> Scope<'a> {
    fn of(scope: &'a KeyScope) -> Result<Scope<'a>> {
        let places = scope.entries.size(1);
        Ok(Scope { kv: PagedReader::new(&scope.kv)?, lists: host::read(&scope.entries)?, places })
    }

    /// What each place of row `t`'s list names.
    fn entries(&self, t: usize) -> impl Iterator<Item = Option<Entry<'_>>> {
        let kv = self.kv.row(t);
        let list = &self.lists.as_slice::<i32>()[t * self.places..][..self.places];
        list.iter().map(move |&entry| kv.get(entry))
    }
}

/// The keys of a row, which are its values as well.
#[derive(Default)]
struct Keys<'a> {
    entries: Vec<Entry<'a>>,
    /// The key behind the last of each block.
    ends: Vec<usize>,
    vectors: Vec<f32>,
}

impl<'a> Keys<'a> {
    /// Takes the entries that row `t` lists, scope by scope.
    fn list(&mut self, scopes: &'a [Scope<'_>], t: usize, rounding: Rounding) {
        self.entries.clear();
        self.ends.clear();
        for (place, entry) in scopes.iter().flat_map(|scope| scope.entries(t)).enumerate() {
            self.entries.extend(entry);
            // Where weights are rounded, blocks are counted in places; else in keys, so that -1 places change no bit.
            let full = match rounding {
                Rounding::Bf16 => (place + 1).is_multiple_of(BLOCK),
                Rounding::None => self.entries.len() == self.ends.last().unwrap_or(&0) + BLOCK,
            };
            if full {
                self.ends.push(self.entries.len());
            }
        }
        self.ends.push(self.entries.len());
    }

    /// The number of keys and the vectors of each block that has any.
    fn blocks(&self, dim: usize) -> impl Iterator<Item = (usize, &[f32])> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let bounds = starts.zip(&self.ends).filter(|(start, end)| start < end);
        bounds.map(move |(start, end)| (end - start, &self.vectors[start * dim..end * dim]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::pages::tests::TestPool;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;
    use anychip_core::formats::round_bf16;

    const DIM: usize = 24;
    const HEADS: usize = 6;

    /// Rows over two pools whose lists have -1 places, repeated entries and entries that no pool has.
    struct Case {
        q: Vec<f32>,
        sink: Vec<f32>,
        pools: [TestPool; 2],
        sequence: Vec<i32>,
        lists: [Vec<i32>; 2],
        scale: f32,
    }

    impl Case {
        fn new(lab: &Lab, value: impl Fn(f32) -> f32 + Copy) -> Case {
            // Row 2 has another sequence, row 3 none, row 4 an empty list, row 5 nothing in its first block.
            let sequence = vec![0, 0, 1, 7, 0, 0];
            let rows = sequence.len();
            let lists = [(1, 100), (2, 90)].map(|(seed, n)| {
                let mut list: Vec<i32> = noise(seed, rows * n).iter().map(|x| ((x + 0.9) * 110.0) as i32).collect();
                list[4 * n..5 * n].fill(-1);
                list[5 * n..5 * n + 80].fill(-1);
                list[0..3].copy_from_slice(&[i32::MIN, i32::MAX, 5]);
                list
            });
            let pools = [TestPool::new(lab, DIM, &sequence, value), TestPool::new(lab, DIM, &sequence, |x| value(-x))];
            let q = noise(7, rows * HEADS * DIM).into_iter().map(value).collect();
            Case { q, sink: vec![0.5, -3.0, 40.0, 0.0, f32::NEG_INFINITY, 1.0], pools, sequence, lists, scale: 0.125 }
        }

        fn run(&self, lab: &Lab, rows: std::ops::Range<usize>, rounding: Rounding, dtype: DType) -> Vec<f32> {
            let count = rows.len();
            let sequence = lab.ints(&[count], &self.sequence[rows.clone()]);
            let scopes = self.pools.iter().zip(&self.lists).map(|(pool, list)| {
                let places = list.len() / self.sequence.len();
                let list = &list[rows.start * places..rows.end * places];
                let kv = anychip_core::Paged { sequence: sequence.clone(), ..pool.kv.clone() };
                KeyScope { kv, entries: lab.ints(&[count, places], list) }
            });
            let sizes = [count, HEADS, DIM];
            let q = &self.q[rows.start * HEADS * DIM..rows.end * HEADS * DIM];
            let (q, sink) = (lab.floats(DType::F32, &sizes, q), lab.floats(DType::F32, &[HEADS], &self.sink));
            let out = lab.output(dtype, &sizes);
            let scale = self.scale;
            lab.run(SparseAttention { q, scopes: scopes.collect(), sink, scale, rounding, out: out.clone() });
            lab.values(&out)
        }

        /// The listed vectors of a row, places without an entry being `None`.
        fn places(&self, row: usize) -> Vec<Option<&[f32]>> {
            let lists = self.pools.iter().zip(&self.lists);
            let lists =
                lists.map(|(pool, list)| (pool, list.chunks(list.len() / self.sequence.len()).nth(row).unwrap()));
            lists.flat_map(|(pool, list)| list.iter().map(move |&e| pool.entry(self.sequence[row], e))).collect()
        }

        fn naive(&self) -> Vec<f64> {
            let mut all = Vec::new();
            for (i, q) in self.q.chunks(DIM).enumerate() {
                let keys: Vec<&[f32]> = self.places(i / HEADS).into_iter().flatten().collect();
                let score = |k: &&[f32]| q.iter().zip(*k).map(|(&q, &k)| q as f64 * k as f64).sum::<f64>();
                let weights: Vec<f64> = keys.iter().map(|k| (score(k) * self.scale as f64).exp()).collect();
                let total = weights.iter().sum::<f64>() + (self.sink[i % HEADS] as f64).exp();
                let value = |d: usize| weights.iter().zip(&keys).map(|(w, k)| w * k[d] as f64).sum::<f64>() / total;
                all.extend((0..DIM).map(|d| if keys.is_empty() { 0.0 } else { value(d) }));
            }
            all
        }

        /// `sparse_attn` of DeepSeek's `inference/kernel.py`, with the scores, maxima and weights in f32.
        fn stepwise(&self) -> Vec<f64> {
            let mut all = Vec::new();
            for (i, q) in self.q.chunks(DIM).enumerate() {
                let (mut m, mut den, mut acc) = (f32::NEG_INFINITY, 0.0, [0.0; DIM]);
                for block in self.places(i / HEADS).chunks(64) {
                    let keys: Vec<&[f32]> = block.iter().flatten().copied().collect();
                    let z = keys.iter().map(|k| q.iter().zip(*k).map(|(q, k)| q * k).sum::<f32>() * self.scale);
                    let z: Vec<f32> = z.collect();
                    let larger = z.iter().fold(m, |m, &z| m.max(z));
                    if keys.is_empty() {
                        continue;
                    }
                    let rescale = (m - larger).exp() as f64;
                    m = larger;
                    den *= rescale;
                    acc.iter_mut().for_each(|x| *x *= rescale);
                    for (z, k) in z.iter().zip(keys) {
                        let e = (z - m).exp();
                        den += e as f64;
                        acc.iter_mut().zip(k).for_each(|(x, &k)| *x += round_bf16(e) as f64 * k as f64);
                    }
                }
                let total = den + (self.sink[i % HEADS] as f64 - m as f64).exp();
                all.extend(acc.map(|x| if m == f32::NEG_INFINITY { 0.0 } else { x / total }));
            }
            all
        }
    }

    #[test]
    fn equals_the_formula() {
        let lab = Lab::new();
        let case = Case::new(&lab, |x| x);
        let (got, want) = (case.run(&lab, 0..6, Rounding::None, DType::F32), case.naive());
        assert_close(&got, &want, 1e-6);
        for row in [3, 4] {
            assert_eq!(got[row * HEADS * DIM..(row + 1) * HEADS * DIM], [0.0; HEADS * DIM], "row {row} has no keys");
        }
        let half = case.run(&lab, 0..6, Rounding::None, DType::BF16);
        assert!(half.iter().zip(&got).all(|(half, got)| *half == round_bf16(*got)), "one rounding on the store");
    }

    #[test]
    fn rounded_weights_follow_the_running_maximum_of_64_places() {
        let lab = Lab::new();
        // Eighths multiply and add exactly, so that scores, maxima and weights are the same numbers in any order.
        let case = Case::new(&lab, |x| (x * 8.0).round());
        let got = case.run(&lab, 0..6, Rounding::Bf16, DType::F32);
        assert_close(&got, &case.stepwise(), 1e-6);
        let unrounded = case.run(&lab, 0..6, Rounding::None, DType::F32);
        assert!(got.iter().zip(&unrounded).any(|(a, b)| (a - b).abs() > 1e-4), "the rounding shows");
    }

    #[test]
    fn a_row_alone_has_the_same_bits() {
        let lab = Lab::new();
        let case = Case::new(&lab, |x| x);
        for rounding in [Rounding::None, Rounding::Bf16] {
            let together = case.run(&lab, 0..6, rounding, DType::F32);
            let alone: Vec<f32> = (0..6).flat_map(|row| case.run(&lab, row..row + 1, rounding, DType::F32)).collect();
            assert_eq!(alone, together);
        }
    }

    #[test]
    fn extremes() {
        let lab = Lab::new();
        let mut case = Case::new(&lab, |x| x * 1e18);
        // Scores of 1e34: far beyond what exp takes, one key has all the weight.
        case.sink = vec![f32::INFINITY, f32::NAN, 0.0, 1e38, f32::NEG_INFINITY, -1e38];
        for rounding in [Rounding::None, Rounding::Bf16] {
            let got = case.run(&lab, 0..1, rounding, DType::F32);
            let head = |h: usize| &got[h * DIM..(h + 1) * DIM];
            assert_eq!(head(0), [0.0; DIM], "an infinite sink takes all");
            assert!(head(1).iter().all(|x| x.is_nan()), "a NaN sink shows");
            let keys = case.places(0);
            assert!(keys.into_iter().flatten().any(|key| key == head(4)), "the largest score takes all");
        }
        case.q[3] = f32::NAN;
        let got = case.run(&lab, 0..1, Rounding::None, DType::F32);
        assert!(got[..DIM].iter().all(|x| x.is_nan()) && !got[4 * DIM].is_nan());
    }
}
