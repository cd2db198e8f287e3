use crate::load::{Floats, Stores, Work};
use anychip_core::{Result, host, ops};

/// `(a, b)` becomes `(a c - b s, b c + a s)` in the last `2 R` elements of each head.
pub(crate) fn run(op: &ops::Rope) -> Result<()> {
    let (x, angles) = (Floats::of(&op.x)?, host::read(&op.angles)?);
    let (heads, dim, rotated) = (op.x.size(1), op.x.size(2), 2 * op.angles.size(1));
    let (angles, rows) = (angles.as_slice::<f32>(), op.x.size(0) * heads);
    let sign = if op.inverse { -1.0 } else { 1.0 };
    Stores::of(&op.out)?.rows(
        0..rows,
        dim,
        Work::of(op),
        || (),
        |(), row, out| {
            x.read(row * dim, out);
            let angles = &angles[row / heads * rotated..][..rotated];
            for (pair, angle) in out[dim - rotated..].chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
                // In f64, where both products are exact: they cancel, and bf16 shows what f32 would lose.
                let [a, b, cosine, sine] = [pair[0], pair[1], angle[0], sign * angle[1]].map(f64::from);
                pair[0] = (a * cosine - b * sine) as f32;
                pair[1] = (b * cosine + a * sine) as f32;
            }
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::ops::Rope;
    use anychip_core::{DType, RopeTable};

    #[test]
    fn pairs_at_the_end_turn_and_the_rest_is_copied() {
        let lab = Lab::new();
        let (rows, heads, dim, pairs) = (3, 2, 7, 2);
        let values = noise(1, rows * heads * dim);
        let x = lab.floats(DType::F32, &[rows, heads, dim], &values);
        let table = RopeTable::new(2 * pairs, 10000.0, None);
        let angles = lab.floats(DType::F32, &[rows, pairs, 2], &table.angles([0, 5, 1_000_000]));
        let out = lab.output(DType::F32, &[rows, heads, dim]);
        lab.run(Rope { x, angles: angles.clone(), inverse: false, out: out.clone() });
        let got = lab.values(&out);
        let mut want: Vec<f64> = values.iter().map(|&x| x as f64).collect();
        for (row, position) in [0.0, 5.0, 1e6].into_iter().enumerate() {
            for (head, pair) in (0..heads).flat_map(|h| (0..pairs).map(move |i| (h, i))) {
                let at = (row * heads + head) * dim + dim - 2 * pairs + 2 * pair;
                let (sine, cosine) = (position * table.frequencies()[pair]).sin_cos();
                let (a, b) = (want[at], want[at + 1]);
                (want[at], want[at + 1]) = (a * cosine - b * sine, b * cosine + a * sine);
            }
        }
        assert_close(&got, &want, 2e-7);
        assert_eq!(got[..3], values[..3], "copied bit for bit");
        // Turning back.
        let back = lab.output(DType::F32, &[rows, heads, dim]);
        lab.run(Rope { x: out, angles, inverse: true, out: back.clone() });
        assert_close(&lab.values(&back), &values.iter().map(|&x| x as f64).collect::<Vec<_>>(), 3e-7);
    }

    #[test]
    fn without_pairs_it_is_a_rounded_copy() {
        let lab = Lab::new();
        let x = lab.floats(DType::F32, &[1, 1, 2], &[1.0 + 1.0 / 256.0, -3.0]);
        let out = lab.output(DType::BF16, &[1, 1, 2]);
        lab.run(Rope { x, angles: lab.floats(DType::F32, &[1, 0, 2], &[]), inverse: false, out: out.clone() });
        assert_eq!(lab.values(&out), [1.0, -3.0]);
    }
}
