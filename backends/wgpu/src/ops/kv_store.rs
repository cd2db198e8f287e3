use crate::limits::{nested, turns};
use crate::plan::Plan;
use anychip_core::ops::KvStore;
use anychip_core::{KvFormat, Reason};
use anychip_shaders::Access;

/// Row `t` becomes entry `entries[t]` of its sequence.
pub(crate) fn plan(op: &KvStore, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, width, format) = (op.x.size(0), op.x.size(1), op.kv.pool.format());
    if op.kv.pool.page_count() == 0 || op.kv.table.count() == 0 {
        return Ok(());
    }
    let (form, codes) = match format {
        KvFormat::Fp8 { nope, .. } => (1, nope),
        KvFormat::Fp4 { dim } => (2, dim),
        _ => (0, 0),
    };
    let group = plan.limits.group();
    let size = group as usize;
    let blocks = nested(codes.div_ceil(if form == 2 { 32 } else { 64 }).div_ceil(size / 8), 2 * turns(64, 8));
    let most = turns(rows, size) + blocks + turns(width - codes, size) + turns(format.scale_bytes(), size);
    plan.kernel("kv_store")
        .number("FORM", form)
        .number("CODES", codes as u32)
        .number("SCALES", format.scale_bytes() as u32)
        .read("x", &op.x)
        .pool("pool", "pool_table", Access::ReadWrite, &op.kv)
        .read("sequence", &op.kv.sequence)
        .read("entries", &op.entries)
        .sizes(&[rows, width, op.kv.table.size(0), op.kv.table.size(1), op.kv.pool.page_count()])
        .turns(most)
        .run(group, rows);
    Ok(())
}
