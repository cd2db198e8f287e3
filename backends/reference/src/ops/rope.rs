use crate::operands::{held, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Rope;

/// `(a, b) <- (a c - b s, b c + a s)` for the last `R` pairs of each head, with `(c, s) = angles[t, i]`
pub(crate) fn evaluate<R: Real>(op: &Rope, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, heads, dim, pairs) = (op.x.size(0), op.x.size(1), op.x.size(2), op.angles.size(1));
    let mut out = held::<R>("x", &op.x, units)?;
    let angles = reals::<R>(&op.angles, units)?;
    for t in 0..rows {
        for h in 0..heads {
            let rotated = (t * heads + h) * dim + dim - 2 * pairs;
            for i in 0..pairs {
                let (c, s) = (angles[(t * pairs + i) * 2], angles[(t * pairs + i) * 2 + 1]);
                let s = if op.inverse { -s } else { s };
                let (a, b) = (out[rotated + 2 * i], out[rotated + 2 * i + 1]);
                out[rotated + 2 * i] = a * c - b * s;
                out[rotated + 2 * i + 1] = b * c + a * s;
            }
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use anychip_core::{DType, RopeTable};

    #[test]
    fn neighbours_at_the_back_turn_and_the_front_is_copied() {
        let x = tensor(DType::F32, &[1, 2, 5], &[9.0, 1.0, 2.0, 3.0, 4.0, 0.1, 5.0, 6.0, 7.0, 8.0]);
        // A quarter turn for the first pair, the (3, 4, 5) triangle's angle for the second.
        let angles = tensor(DType::F32, &[1, 2, 2], &[0.0, 1.0, 0.75, 0.5]);
        let out = unwritten(DType::F32, &[1, 2, 5]);
        run(Rope { x: x.clone(), angles: angles.clone(), inverse: false, out: out.clone() });
        assert_eq!(floats_of(&out), [9.0, -2.0, 1.0, 0.25, 4.5, 0.1, -6.0, 5.0, 1.25, 9.5]);
        run(Rope { x, angles, inverse: true, out: out.clone() });
        assert_eq!(floats_of(&out), [9.0, 2.0, -1.0, 4.25, 1.5, 0.1, 6.0, -5.0, 9.25, 2.5]);
    }

    #[test]
    fn the_inverse_turns_back() {
        let x = Random::new(1).normals(3 * 2 * 8, 1.0);
        let angles = tensor(DType::F32, &[3, 4, 2], &RopeTable::new(8, 10000.0, None).angles([0, 7, 1 << 20]));
        let [turned, back] = [0; 2].map(|_| unwritten(DType::F32, &[3, 2, 8]));
        let input = tensor(DType::F32, &[3, 2, 8], &x);
        run(Rope { x: input, angles: angles.clone(), inverse: false, out: turned.clone() });
        run(Rope { x: turned.clone(), angles, inverse: true, out: back.clone() });
        assert_eq!(floats_of(&turned)[..16], x[..16], "position 0 turns nothing");
        assert_ne!(floats_of(&turned)[16..], x[16..]);
        assert!(floats_of(&back).iter().zip(&x).all(|(got, want)| (got - want).abs() < 1e-6));
    }

    #[test]
    fn an_f32_loop_keeps_the_bound() {
        let x = Random::new(2).normals(16 * 4 * 8, 1.0);
        let angles = RopeTable::new(8, 10000.0, None).angles((0..16).map(|t| t * 1001));
        let op = run(Rope {
            x: tensor(DType::F32, &[16, 4, 8], &x),
            angles: tensor(DType::F32, &[16, 4, 2], &angles),
            inverse: false,
            out: unwritten(DType::F32, &[16, 4, 8]),
        });
        let mut got = Vec::new();
        for (i, pair) in x.chunks(2).enumerate() {
            let (row, place) = (i / 16, i % 4);
            let (c, s) = (angles[(row * 4 + place) * 2], angles[(row * 4 + place) * 2 + 1]);
            got.extend([pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s]);
        }
        assert_bound(&op, "out", &got);
    }
}
