use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::KvCompress;

/// One step per row: the row goes into its slot, and a window that it closes is pooled.
pub(crate) fn plan(op: &KvCompress, plan: &mut Plan) -> Result<(), Reason> {
    let (sequences, width) = (op.state.size(0), op.out.size(1));
    plan.kernel("kv_compress")
        .flag("OVERLAP", op.overlap)
        .read("kv", &op.kv)
        .read("gate", &op.gate)
        .read("ape", &op.ape)
        .change("state", &op.state)
        .read("sequence", &op.sequence)
        .read("position", &op.position)
        .read("closing", &op.closing)
        .write("out", &op.out)
        .sizes(&[op.kv.size(0), op.ratio(), op.channels(), sequences, op.closing.size(0), width])
        .run_each((sequences + 1) * width);
    Ok(())
}
