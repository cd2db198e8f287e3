use crate::load::{Floats, Stores, Work, dot_f64, floats};
use anychip_core::Result;
use anychip_core::formats::round_bf16;
use anychip_core::ops::{self, Rounding};

/// `out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps)`
pub(crate) fn run(op: &ops::RmsNorm) -> Result<()> {
    let x = Floats::of(&op.x)?;
    let weight = op.weight.as_ref().map(floats).transpose()?;
    let (rows, width) = (op.x.size(0), op.x.size(1));
    Stores::of(&op.out)?.rows(
        0..rows,
        width,
        Work::of(op),
        || (),
        |(), row, out| {
            x.read(row * width, out);
            match op.rounding {
                Rounding::None => {
                    // In f64, rounded once: a second rounding before bf16 flips one result in some thousands.
                    let factor = reciprocal_root(dot_f64(out, out) / width as f64 + op.eps as f64);
                    match &weight {
                        Some(w) => {
                            out.iter_mut().zip(w).for_each(|(x, &w)| *x = (*x as f64 * factor * w as f64) as f32)
                        }
                        None => out.iter_mut().for_each(|x| *x = (*x as f64 * factor) as f32),
                    }
                }
                Rounding::Bf16 => {
                    let factor = stepwise_factor(out, op.eps);
                    out.iter_mut().for_each(|x| *x *= factor);
                }
            }
        },
    );
    Ok(())
}

fn reciprocal_root(x: f64) -> f64 {
    1.0 / x.sqrt()
}

/// The factor with each step rounded to bf16. Squares that are bf16 have a sum that f64 holds exactly, so that its order
/// cannot move the mean across a rounding boundary.
fn stepwise_factor(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0.0f64; 8];
    for block in x.chunks(lanes.len()) {
        lanes.iter_mut().zip(block).for_each(|(lane, &x)| *lane += round_bf16(x * x) as f64);
    }
    let mean = round_bf16((lanes.iter().sum::<f64>() / x.len() as f64) as f32);
    round_bf16(reciprocal_root(round_bf16(mean + eps) as f64) as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;
    use anychip_core::ops::RmsNorm;

    fn normed(lab: &Lab, x: &[f32], width: usize, weight: Option<&[f32]>, rounding: Rounding) -> Vec<f32> {
        let rows = x.len() / width;
        let x = lab.floats(DType::F32, &[rows, width], x);
        let weight = weight.map(|w| lab.floats(DType::F32, &[width], w));
        let out = lab.output(DType::F32, &[rows, width]);
        lab.run(RmsNorm { x, weight, eps: 1e-6, rounding, out: out.clone() });
        lab.values(&out)
    }

    #[test]
    fn the_formula_in_f64() {
        let lab = Lab::new();
        let (rows, width) = (4, 70);
        let mut x = noise(1, rows * width);
        x[..width].fill(0.0);
        x[width..2 * width].iter_mut().for_each(|x| *x *= 1e-4);
        let weight = noise(2, width);
        let mut want = Vec::new();
        for row in x.chunks(width) {
            let mean = row.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / width as f64;
            want.extend(row.iter().zip(&weight).map(|(&x, &w)| w as f64 * x as f64 / (mean + 1e-6f32 as f64).sqrt()));
        }
        assert_close(&normed(&lab, &x, width, Some(&weight), Rounding::None), &want, 1e-6);
    }

    #[test]
    fn each_step_is_rounded_where_the_definition_says_so() {
        let lab = Lab::new();
        // Squares 1 and 2.25; mean 1.625, which bf16 holds; 1 / sqrt(1.625) = 0.78446 becomes 0.78515625.
        assert_eq!(normed(&lab, &[1.0, 1.5], 2, None, Rounding::Bf16), [0.78515625, 1.5 * 0.78515625]);
        // 1.0625^2 = 1.12890625 is half way between 1.125 and 1.1328125 and goes to the even 1.125:
        // 1 / sqrt(1.125) = 0.942809 becomes 0.94140625, where the exact square would have given 1 / 1.0625.
        assert_eq!(normed(&lab, &[1.0625], 1, None, Rounding::Bf16), [1.0625 * 0.94140625]);
    }

    #[test]
    fn a_nan_stays_in_its_row() {
        let lab = Lab::new();
        let got = normed(&lab, &[f32::NAN, 1.0, 1.0, 1.0], 2, None, Rounding::None);
        assert!(got[0].is_nan() && got[1].is_nan() && got[2] > 0.99 && got[3] > 0.99);
    }
}
