//! Memory: out of bounds, not written, not from this call.

use super::Fault;
use super::bench::Bench;
use anychip_core::ops::NAMES;
use anychip_core::{Access, DType, Op, Result, Tensor};

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("memory", name, ops, bug, run)
}

/// Operations with float outputs.
const FLOATS: &[&str] = &["linear", "rms_norm", "swiglu", "dequantize", "hyper_post", "sparse_attention"];
/// Operations that overwrite all of their output.
const WRITERS: &[&str] = &["linear", "rms_norm", "top_k", "quantize", "route", "embed"];

fn written(op: &Op) -> Vec<(&'static str, Tensor)> {
    let all = op.operands().into_iter().filter(|(_, access, t)| *access != Access::Read && t.bytes() > 0);
    all.map(|(name, _, tensor)| (name, tensor)).collect()
}

/// Bytes next to a tensor, in the same buffer.
fn beside(tensor: &Tensor, offset: u64, len: usize) -> Result<Tensor> {
    Ok(Tensor::new(tensor.buffer(), offset, DType::U8, &[len])?)
}

/// The part of each output from `from` on keeps what it held; `from` is given the number of bytes.
fn unwritten(b: &mut Bench<'_>, op: &Op, from: fn(&Tensor) -> usize) -> Result<()> {
    let mut before = Vec::new();
    for (_, tensor) in written(op) {
        before.push(b.bytes(&tensor)?);
    }
    b.run(op)?;
    for ((_, tensor), before) in written(op).into_iter().zip(before) {
        let from = from(&tensor).min(before.len());
        b.change(&tensor, |bytes| bytes[from..].copy_from_slice(&before[from..]))?;
    }
    Ok(())
}

fn row_bytes(t: &Tensor) -> usize {
    t.bytes() as usize / t.size(0).max(1)
}

pub(super) const FAULTS: &[Fault] = &[
    fault("one_element_behind", NAMES, "A tile's last thread writes one element past the end.", |b, op| {
        b.run(op)?;
        let Some((_, out)) = written(op).pop() else { return Ok(()) };
        b.change(&beside(&out, out.offset() + out.bytes(), 4)?, |bytes| bytes.fill(0))
    }),
    fault("one_element_before", NAMES, "A negative index writes before the beginning.", |b, op| {
        b.run(op)?;
        let Some((_, out)) = written(op).pop() else { return Ok(()) };
        b.change(&beside(&out, out.offset() - 4, 4)?, |bytes| bytes.fill(0))
    }),
    fault("vector_store_spills", FLOATS, "A store of 64 bytes runs over the end of a ragged row.", |b, op| {
        b.run(op)?;
        let Some((_, out)) = written(op).pop() else { return Ok(()) };
        let spill = (64 - out.bytes() % 64) % 64;
        b.change(&beside(&out, out.offset() + out.bytes(), spill as usize)?, |bytes| bytes.fill(0))
    }),
    fault("input_overwritten", NAMES, "An input is used as scratch memory.", |b, op| {
        b.run(op)?;
        let input = op.operands().into_iter().find(|(_, access, t)| *access == Access::Read && t.bytes() > 0);
        let Some((_, _, input)) = input else { return Ok(()) };
        b.change(&input, |bytes| bytes.iter_mut().for_each(|x| *x = x.wrapping_add(1)))
    }),
    fault("nothing_written", NAMES, "The kernel returns at once.", |_, _| Ok(())),
    fault("tail_not_written", WRITERS, "The last element is not stored.", |b, op| {
        unwritten(b, op, |t| t.bytes() as usize - t.dtype().bits().div_ceil(8) as usize)
    }),
    fault("last_row_not_written", WRITERS, "The grid is one row short.", |b, op| {
        unwritten(b, op, |t| t.bytes() as usize - row_bytes(t))
    }),
    fault("zeroed_output", FLOATS, "All results are zero, as after a launch that failed silently.", |b, op| {
        b.then_floats(op, |_, _, values| values.fill(0.0))
    }),
    fault(
        "result_of_the_last_call",
        FLOATS,
        "The result is the one that the buffer's pool held from the call before.",
        |b, op| {
            b.run(op)?;
            for (name, tensor) in written(op) {
                let now = b.bytes(&tensor)?;
                let before = b.remembered.insert((op.name(), name), now.clone()).unwrap_or_default();
                let stale: Vec<u8> = (0..now.len()).map(|i| before.get(i).copied().unwrap_or(0)).collect();
                b.put(&tensor, &stale)?;
            }
            Ok(())
        },
    ),
    fault(
        "stale_second_half",
        FLOATS,
        "The second half of the output is left from the call before: a missing wait.",
        |b, op| {
            b.run(op)?;
            for (name, tensor) in written(op) {
                let mut now = b.bytes(&tensor)?;
                let before = b.remembered.insert((op.name(), name), now.clone()).unwrap_or_default();
                let half = now.len() / 2;
                (half..now.len()).for_each(|i| now[i] = before.get(i).copied().unwrap_or(0));
                b.put(&tensor, &now)?;
            }
            Ok(())
        },
    ),
    fault("rows_in_wrong_order", FLOATS, "Rows are stored from the last to the first.", |b, op| {
        b.then_bytes(op, |_, t, bytes| {
            let rows: Vec<Vec<u8>> = bytes.chunks(row_bytes(t).max(1)).map(<[u8]>::to_vec).collect();
            *bytes = rows.into_iter().rev().flatten().collect();
        })
    }),
    fault("one_nan", FLOATS, "One element is NaN, from memory that nobody set.", |b, op| {
        b.then_floats(op, |_, _, values| {
            let middle = values.len() / 2;
            if let Some(x) = values.get_mut(middle) {
                *x = f64::NAN;
            }
        })
    }),
    fault(
        "infinity_saturates_to_max",
        &["dequantize"],
        "A value beyond the type's range becomes its largest number.",
        |b, op| {
            b.then_floats(op, |_, t, values| {
                let max = if t.dtype() == DType::F32 { f64::from(f32::MAX) } else { 3.3895e38 };
                values.iter_mut().filter(|x| x.is_infinite()).for_each(|x| *x = max.copysign(*x));
            })
        },
    ),
    fault("bf16_bits_as_f16", FLOATS, "A bf16 output holds f16 bits.", |b, op| {
        b.then_bytes(op, |_, t, bytes| {
            if t.dtype() == DType::BF16 {
                let values = crate::rules::structure::floats(DType::BF16, bytes);
                *bytes = super::bench::stored(DType::F16, &values);
            }
        })
    }),
];
