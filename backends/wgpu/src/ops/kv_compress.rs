use crate::limits::{nested, turns};
use crate::plan::{Building, Plan};
use anychip_core::Reason;
use anychip_core::ops::KvCompress;

/// Rows up to which one kernel takes them one by one: a decoding step is one dispatch.
const FEW_ROWS: usize = 8;
/// Slots and entries that an invocation of that kernel may look at: beyond them it is slow.
const MOST_VISITS: usize = 4096;
/// Pairs of channels that a GPU's workgroup makes of an entry.
const PAIRS: u32 = 32;
/// Channels of the state that a workgroup sees to.
const STATE_CHANNELS: usize = 64;
/// Slots that a workgroup searches at a time.
const PIECE: usize = 256;

/// One step per row: the row goes into its slot, and a window that it closes is pooled. Few rows are taken like that; of many,
/// each entry finds the rows of its window by itself, and so does each slot of the state that is left behind.
pub(crate) fn plan(op: &KvCompress, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, ratio, channels) = (op.kv.size(0), op.ratio(), op.channels());
    let (sequences, entries, width) = (op.state.size(0), op.closing.size(0), op.out.size(1));
    if rows <= FEW_ROWS && rows.saturating_mul(op.slots() + entries) + entries <= MOST_VISITS {
        let (slots, listed) = (turns(op.slots(), 1), turns(entries, 1));
        let step = 2 * listed + 2 * slots + nested(ratio, 3);
        plan.kernel("kv_compress")
            .rows_of(op)
            .change("state", &op.state)
            .read("closing", &op.closing)
            .write("out", &op.out)
            .sizes(&[rows, ratio, channels, sequences, entries, width])
            .turns(nested(rows, step) + listed)
            .run_each((sequences + 1) * width);
        return Ok(());
    }
    // Entries first: they need the state as it was.
    let group = plan.limits.group();
    let (lanes, piece, pieces) = (group as usize, ratio.min(PIECE), ratio.div_ceil(PIECE));
    let windows = if op.overlap { 2 } else { 1 };
    let search = turns(2 * PIECE, lanes) + windows * nested(rows.div_ceil(lanes), turns(piece, lanes));
    let pairs = if plan.limits.is_cpu { group } else { PAIRS.min(group) };
    let tiles = width.div_ceil(2 * pairs as usize);
    let groups = entries * tiles;
    let parts = lanes / pairs as usize;
    // Twice over the slots; those of one piece are searched once.
    let searched = if pieces > 1 { 2 * pieces } else { 1 };
    let pooled = nested(2, nested(pieces, turns(windows * piece, parts)) + turns(parts, 1)) + turns(parts, 1);
    plan.kernel("kv_compress_entries")
        .number("PIECE", PIECE as u32)
        .number("PAIRS", pairs)
        .rows_of(op)
        .read("state", &op.state)
        .read("closing", &op.closing)
        .write("out", &op.out)
        .sizes(&[rows, ratio, channels, sequences, width, tiles, groups])
        .turns(searched * search + pooled)
        .run(group, groups);
    let tiles = channels.div_ceil(STATE_CHANNELS);
    let groups = if rows == 0 { 0 } else { sequences * pieces * tiles };
    plan.kernel("kv_compress_state")
        .number("PIECE", PIECE as u32)
        .number("COLS", STATE_CHANNELS as u32)
        .rows_of(op)
        .change("state", &op.state)
        .sizes(&[rows, ratio, channels, pieces, tiles, groups])
        .turns(search + turns(piece, lanes / STATE_CHANNELS))
        .run(group, groups);
    Ok(())
}

impl Building<'_> {
    /// The operands that say what each row puts where.
    fn rows_of(self, op: &KvCompress) -> Self {
        self.flag("OVERLAP", op.overlap)
            .read("kv", &op.kv)
            .read("gate", &op.gate)
            .read("ape", &op.ape)
            .read("sequence", &op.sequence)
            .read("position", &op.position)
    }
}
