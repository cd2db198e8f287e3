use crate::operands::{held, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::{RmsNorm, Rounding};

/// `out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps)`
pub(crate) fn evaluate<R: Real>(op: &RmsNorm, units: R::Units) -> Result<Vec<Output<R>>> {
    let d = op.x.size(1);
    let x = held::<R>("x", &op.x, units)?;
    let weight = op.weight.as_ref().map(|w| reals::<R>(w, units)).transpose()?;
    let (eps, count) = (R::from(op.eps as f64), R::from(d as f64));
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(d) {
        match op.rounding {
            Rounding::None => {
                let factor = (R::dot(row, row) / count + eps).rsqrt();
                match &weight {
                    Some(w) => out.extend(row.iter().zip(w).map(|(&x, &w)| w * (x * factor))),
                    None => out.extend(row.iter().map(|&x| x * factor)),
                }
            }
            Rounding::Bf16 => {
                let squares: Vec<R> = row.iter().map(|&x| (x * x).bf16()).collect();
                let mean = (R::sum(&squares) / count).bf16();
                let factor = (mean + eps).bf16().rsqrt().bf16();
                out.extend(row.iter().map(|&x| x * factor));
            }
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}
