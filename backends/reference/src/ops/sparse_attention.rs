use crate::operands::{Entries, held, integers, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::{Rounding, SparseAttention};

/// `out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m))`, `z_j = scale * (q[t,h] . K_j)`
pub(crate) fn evaluate<R: Real>(op: &SparseAttention, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, heads, dim) = (op.q.size(0), op.q.size(1), op.q.size(2));
    let (q, sink, scale) = (held::<R>("q", &op.q, units)?, reals::<R>(&op.sink, units)?, R::from(op.scale as f64));
    let mut scopes = Vec::new();
    for scope in &op.scopes {
        scopes.push((Entries::<R>::read("pool", &scope.kv, units)?, integers(&scope.entries)?, scope.entries.size(1)));
    }
    let mut out = Vec::with_capacity(q.len());
    for t in 0..rows {
        // Both lists one behind the other: the keys, and of each the block of list places that it lies in.
        let (mut keys, mut blocks, mut place) = (Vec::new(), Vec::new(), 0);
        for (pool, entries, width) in &scopes {
            for &entry in &entries[t * width..][..*width] {
                if let Some(key) = pool.get(t, entry) {
                    keys.push(key);
                    blocks.push(place / SparseAttention::BLOCK);
                }
                place += 1;
            }
        }
        let channels: Vec<Vec<R>> = (0..dim).map(|c| keys.iter().map(|key| key[c]).collect()).collect();
        for h in 0..heads {
            let q = &q[(t * heads + h) * dim..][..dim];
            let z: Vec<R> = keys.iter().map(|key| R::dot(q, key) * scale).collect();
            if z.is_empty() {
                out.resize(out.len() + dim, R::from(0.0));
                continue;
            }
            let (weights, sum) = match op.rounding {
                // The sink is a key without a value: products end with the shorter of their sides.
                Rounding::None => R::softmax(&[&z[..], &[sink[h]]].concat()),
                Rounding::Bf16 => rounded_weights(&z, &blocks, sink[h]),
            };
            let weights: Vec<R> = weights.into_iter().map(|w| w.held("weights", units)).collect();
            out.extend(channels.iter().map(|channel| R::mean(&weights, sum, channel)));
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

/// Weights rounded to bf16 where DeepSeek's `sparse_attn` rounds them, and the denominator.
///
/// The kernel goes through the list block by block with `m` the largest score so far, the sink left out:
///
/// ```text
/// e_j = exp(z_j - m);   sum <- sum * exp(m_before - m) + sum_j e_j;   acc <- acc * exp(m_before - m) + sum_j bf16(e_j) K_j
/// ```
///
/// and adds `exp(sink - m)` to the sum at the end. Nothing is rounded between two rescalings, so the factors of a block
/// are `exp(m_of_its_block - m_at_the_end)` in one. The end is raised to the sink where that is larger, which changes
/// both sides of the quotient alike and keeps a large sink from overflowing.
///
/// `m` counts with its error here: it does not cancel, it moves what is rounded.
fn rounded_weights<R: Real>(z: &[R], blocks: &[usize], sink: R) -> (Vec<R>, R) {
    let largest = |m: R, z: &[R]| z.iter().fold(m, |m, &z| m.max(z));
    let end = largest(sink, z);
    let (mut weights, mut terms) = (Vec::new(), Vec::new());
    let (mut m, mut from) = (R::from(f64::NEG_INFINITY), 0);
    for block in blocks.chunk_by(|a, b| a == b) {
        let (z, later) = z[from..].split_at(block.len());
        (m, from) = (largest(m, z), from + block.len());
        // Where m can grow no more, the kernel multiplies by exactly 1.
        let settled = later.iter().chain([&sink]).all(|z| z.value() + z.error() <= m.value() - m.error());
        let rescale = if settled { R::from(1.0) } else { (m - end).exp() };
        weights.extend(z.iter().map(|&z| (z - m).exp().bf16() * rescale));
        terms.extend(z.iter().map(|&z| (z - end).exp()));
    }
    terms.push((sink - end).exp());
    (weights, R::sum(&terms))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::*;
    use anychip_core::DType::{F32, U8};
    use anychip_core::formats::round_bf16;
    use anychip_core::ops::{KeyScope, Rounding, SparseAttention};
    use anychip_core::{KvFormat, KvPool, Operation, Paged};

    const DIM: usize = 16;
    const HEADS: usize = 3;

    /// Entries of an f32 pool and the lists that name them.
    struct Scope {
        keys: Vec<f32>,
        lists: Vec<i32>,
    }

    impl Scope {
        /// `count` random keys; lists of `width`, one place in eight without a key.
        fn random(count: usize, rows: usize, width: usize, random: &mut Random) -> Scope {
            let mut lists = random.below(count, rows * width);
            lists.iter_mut().for_each(|entry| *entry = if random.uniform() < 0.125 { -1 } else { *entry });
            Scope { keys: random.normals(count * DIM, 1.0), lists }
        }

        /// In pages that lie in reverse.
        fn on_device(&self, rows: usize) -> KeyScope {
            let format = KvFormat::F32 { dim: DIM };
            let pages = (self.keys.len() / DIM).div_ceil(64);
            let mut lines = self.keys.clone();
            lines.resize(pages * 64 * DIM, f32::NAN);
            let bytes: Vec<u8> = lines.chunks(64 * DIM).rev().flatten().flat_map(|x| x.to_le_bytes()).collect();
            let pool = KvPool::new(format, &raw(U8, &[pages, format.page_bytes()], &bytes)).unwrap();
            let table = int_tensor(&[1, pages], &(0..pages as i32).rev().collect::<Vec<_>>());
            let kv = Paged { pool, table, sequence: int_tensor(&[rows], &vec![0; rows]) };
            KeyScope { kv, entries: int_tensor(&[rows, self.lists.len() / rows], &self.lists) }
        }
    }

    fn op(q: &[f32], scopes: &[Scope], sink: &[f32], rounding: Rounding) -> SparseAttention {
        let rows = q.len() / (HEADS * DIM);
        SparseAttention {
            q: tensor(F32, &[rows, HEADS, DIM], q),
            scopes: scopes.iter().map(|scope| scope.on_device(rows)).collect(),
            sink: tensor(F32, &[HEADS], sink),
            scale: 0.25,
            rounding,
            out: unwritten(F32, &[rows, HEADS, DIM]),
        }
    }

    /// The kernel as it runs, in `f64` or rounded to f32 after each step, with everything rescaled at each block.
    fn kernel(q: &[f32], scopes: &[Scope], sink: &[f32], rounding: Rounding, step: impl Fn(f64) -> f64) -> Vec<f64> {
        let (rows, mut out) = (q.len() / (HEADS * DIM), Vec::new());
        for (i, q) in q.chunks(DIM).enumerate() {
            let (t, h) = (i / HEADS, i % HEADS);
            let list: Vec<Option<&[f32]>> = scopes
                .iter()
                .flat_map(|s| {
                    let width = s.lists.len() / rows;
                    s.lists[t * width..][..width]
                        .iter()
                        .map(|&e| s.keys.get(usize::try_from(e).ok()? * DIM..)?.get(..DIM))
                })
                .collect();
            let (mut m, mut sum, mut acc) = (f64::NEG_INFINITY, 0.0, [0.0; DIM]);
            for block in list.chunks(64) {
                let score =
                    |key: &[f32]| q.iter().zip(key).fold(0.0, |s, (&q, &k)| step(s + step(q as f64 * k as f64)));
                let z: Vec<(f64, &[f32])> = block.iter().flatten().map(|&key| (step(score(key) * 0.25), key)).collect();
                let largest = z.iter().fold(m, |m, &(z, _)| m.max(z));
                if largest == f64::NEG_INFINITY {
                    continue;
                }
                let rescale = step(step(m - largest).exp());
                (m, sum) = (largest, step(sum * rescale));
                acc.iter_mut().for_each(|a| *a = step(*a * rescale));
                for (z, key) in z {
                    let e = step(step(z - m).exp());
                    sum = step(sum + e);
                    let e = if rounding == Rounding::Bf16 { round_bf16(e as f32) as f64 } else { e };
                    acc.iter_mut().zip(key).for_each(|(a, &k)| *a = step(*a + step(e * k as f64)));
                }
            }
            sum = step(sum + step(step(sink[h] as f64 - m).exp()));
            out.extend(acc.map(|a| if m == f64::NEG_INFINITY { 0.0 } else { step(a / sum) }));
        }
        out
    }

    fn case(seed: u64, widths: &[usize], spread: f64) -> (Vec<f32>, Vec<Scope>, Vec<f32>) {
        let (rows, mut random) = (4, Random::new(seed));
        let scopes = widths.iter().map(|&width| Scope::random(150, rows, width, &mut random)).collect();
        (random.normals(rows * HEADS * DIM, spread), scopes, random.normals(HEADS, 1.0))
    }

    #[test]
    fn blocks_run_across_scopes_as_the_kernel_takes_them() {
        for (seed, widths) in [&[1][..], &[64], &[65, 62], &[128, 100], &[0, 70], &[30, 0]].into_iter().enumerate() {
            for rounding in [Rounding::None, Rounding::Bf16] {
                let (q, scopes, sink) = case(seed as u64, widths, 2.0);
                let got = exact(&op(&q, &scopes, &sink, rounding).build().unwrap(), "out");
                for (i, (got, want)) in got.iter().zip(kernel(&q, &scopes, &sink, rounding, |x| x)).enumerate() {
                    assert!((got - want).abs() <= 1e-13, "{widths:?} {rounding:?} [{i}]: {got} is not {want}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_seen_and_depends_on_the_block() {
        let (q, mut scopes, sink) = case(7, &[130], 2.0);
        let value = |scopes: &[Scope], rounding| exact(&op(&q, scopes, &sink, rounding).build().unwrap(), "out");
        let off = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let [plain, rounded] = [Rounding::None, Rounding::Bf16].map(|rounding| value(&scopes, rounding));
        assert!((1e-5..1e-2).contains(&off(&plain, &rounded)), "bf16 weights are off by {:e}", off(&plain, &rounded));
        // Another order of the list is the same sum, but for the largest score that its first block sees.
        scopes[0].lists.chunks_mut(130).for_each(|list| list.reverse());
        let [plain_back, rounded_back] = [Rounding::None, Rounding::Bf16].map(|rounding| value(&scopes, rounding));
        assert!(off(&plain, &plain_back) < 1e-14);
        assert!(off(&rounded, &rounded_back) > 1e-6);
    }

    #[test]
    fn an_entry_listed_twice_counts_twice() {
        let (ones, twos) = (vec![1.0; DIM], vec![2.0; DIM]);
        let scope = |lists: Vec<i32>| Scope { keys: [ones.clone(), twos.clone()].concat(), lists };
        let zero = [0.0; HEADS * DIM];
        for rounding in [Rounding::None, Rounding::Bf16] {
            let value = |scopes: &[Scope], sink: f32| {
                exact(&op(&zero, scopes, &[sink; HEADS], rounding).build().unwrap(), "out")[0]
            };
            assert_eq!(value(&[scope(vec![0, 1, 0])], f32::NEG_INFINITY), 4.0 / 3.0);
            assert_eq!(value(&[scope(vec![0, 1, 0])], 0.0), 4.0 / 4.0, "the sink takes its part and gives nothing");
            assert_eq!(value(&[scope(vec![0, -1]), scope(vec![1])], f32::NEG_INFINITY), 1.5);
            assert_eq!(value(&[scope(vec![-1, 500])], 0.0), 0.0, "no key");
            assert_eq!(value(&[scope(vec![-1, i32::MIN])], f32::NEG_INFINITY), 0.0, "no key and no sink");
            assert_eq!(value(&[scope(vec![1])], 5000.0), 0.0, "a sink that outweighs everything");
        }
    }

    #[test]
    fn f32_keeps_its_bound() {
        for rounding in [Rounding::None, Rounding::Bf16] {
            for (seed, widths) in [&[20, 12][..], &[128, 64]].into_iter().enumerate() {
                let (q, scopes, sink) = case(10 + seed as u64, widths, 1.0);
                let got: Vec<f32> =
                    kernel(&q, &scopes, &sink, rounding, |x| x as f32 as f64).iter().map(|&x| x as f32).collect();
                assert_bound(&op(&q, &scopes, &sink, rounding).build().unwrap(), "out", &got);
            }
        }
    }
}
