
// What the kernels of dense attention share: who works on what, and how a row ends.
//
// The H / G heads that read key-value head g, in all T rows, are the T H / G queries of that head, head by head in each row.
// A workgroup has a tile of them, a chunk of the E columns and, where there are several SPLITs, a part of the N keys.

struct Params {
    rows: u32, keys: u32, heads: u32, groups: u32, dim: u32, width: u32,
    causal: u32, count: u32, tiles: u32, chunks: u32, splits: u32, split_keys: u32, quads: u32, scale: f32,
}
var<immediate> p: Params;

// Below every score that is a number, and finite, so that differences are.
const LOWEST: f32 = -3.4028234e38;

struct Task { batch: u32, group: u32, split: u32, chunk: u32, tile: u32 }

// Tiles are neighbours because they read the same keys; the last goes first, for with a causal mask it has most to do.
fn task(number: u32) -> Task {
    let rest = number / p.tiles;
    let of_split = rest / p.chunks;
    let of_group = of_split / p.splits;
    let tile = p.tiles - 1u - number % p.tiles;
    return Task(of_group / p.groups, of_group % p.groups, of_split % p.splits, rest % p.chunks, tile);
}

fn tasks() -> u32 { return p.count / (p.rows * p.heads) * p.groups * p.splits * p.chunks * p.tiles; }

fn queries() -> u32 { return p.rows * (p.heads / p.groups); }

// Query `m` of a key-value head, as a row of [B T H].
fn row_of(work: Task, m: u32) -> u32 {
    let share = p.heads / p.groups;
    return (work.batch * p.rows + m / share) * p.heads + work.group * share + m % share;
}

// Keys that query `m` sees.
fn seen(m: u32) -> u32 {
    if (p.causal == 0u) { return p.keys; }
    return m / (p.heads / p.groups) + 1u + p.keys - p.rows;
}

// Key `j`, as a row of [B N G].
fn key_of(work: Task, j: u32) -> u32 { return (work.batch * p.keys + j) * p.groups + work.group; }

// What a weighted sum under maximum `largest` is multiplied by, with the sum of weights `sum`.
fn ending(row: u32, largest: f32, sum: f32) -> f32 {
    if (p.keys == 0u) { return 0.0; }
    return last_factor(largest, sum, sink_load(row % p.heads));
}
