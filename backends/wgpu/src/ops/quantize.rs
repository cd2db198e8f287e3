use crate::limits::{nested, turns};
use crate::plan::Plan;
use anychip_core::ops::{Quantize, quantize_block};
use anychip_core::{DType, Reason};

/// Codes and scales of each block of a row.
pub(crate) fn plan(op: &Quantize, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, width) = (op.x.size(0), op.x.size(1));
    let Some((scales, _)) = op.out.scales() else { return Ok(()) };
    // A block beyond the row is the row.
    let block = quantize_block(op.out.format()).min(width.max(1));
    let blocks = width.div_ceil(block);
    let is_fp4 = op.out.codes().dtype() == DType::E2M1;
    let each = if is_fp4 { 8 } else { 4 };
    let words = width.is_multiple_of(each) && block.is_multiple_of(each);
    // As many invocations as a block has words, within reason.
    let share = (block / each).clamp(1, 32).next_power_of_two() as u32;
    let group = plan.limits.group();
    let lanes = share as usize;
    let codes = match words {
        true => nested(block.div_ceil(each * lanes), turns(each, 1)),
        false => turns(block, lanes),
    };
    plan.kernel("quantize")
        .flag("FP4", is_fp4)
        .flag("WORDS", words)
        .number("SHARE", share)
        .read("x", &op.x)
        .write("out", op.out.codes())
        .write("out_scale", scales)
        .sizes(&[width, block, blocks, rows * blocks])
        .turns(turns(block, lanes) + turns(lanes, 1) + codes)
        .run(group, (rows * blocks).div_ceil((group / share) as usize));
    Ok(())
}
