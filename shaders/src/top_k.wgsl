
// out[t, j] = the place of the j-th largest score of row t, of equal ones the lower place first; -1 behind the last score
// that is neither -inf nor NaN.
//
// A score and its place are a pair of numbers, (order, ~place), larger where it comes earlier. No two are equal: whatever
// order pairs are taken in, which ones are taken and how they end up sorted does not depend on it.
//
// One workgroup selects from one list: a row, a segment of it (PART), or the pairs that the segments of a row gave (MERGE).
//
// 1. The least pair that is taken is found from its highest byte down. Each pass counts, among the pairs that agree with
//    the bytes so far, how many have which byte next.
// 2. Pairs from that one on are collected: in workgroup memory; in `pairs` where they are many (SPILL) or are for the
//    merge (PART).
// 3. They are sorted by a bitonic network, and the first k are stored.

struct Params {
    first_row: u32,
    lists: u32, // workgroups
    width: u32, // scores of a row; in the merge, pairs of a row
    segments: u32, // lists of a row
    length: u32, // of a list, but the last of a row
    taken: u32, // pairs that are collected of a list, where it has as many
    given: u32, // pairs that the lists of a row give together
    sorted: u32, // the power of two that is sorted
    k: u32,
}
var<immediate> p: Params;

// Counters of a byte, that not all invocations add to the same one.
const COPIES: u32 = 8u;
// Bytes' values that an invocation looks after when they are added up.
const SHARE: u32 = (256u + WG - 1u) / WG;

var<workgroup> counts: array<atomic<u32>, 256u * COPIES>;
var<workgroup> sums: array<u32, WG>;
var<workgroup> best: array<vec2<u32>, HELD>;
// The least pair, as far as it is known, and how many of those that agree with it are taken; 0 for all of them.
var<workgroup> least: vec2<u32>;
var<workgroup> wanted: u32;
var<workgroup> found: atomic<u32>;

fn pair_at(i: u32) -> vec2<u32> { return vec2<u32>(pairs_word(2u * i), pairs_word(2u * i + 1u)); }
fn put_pair(i: u32, pair: vec2<u32>) {
    pairs_put(2u * i, pair.x);
    pairs_put(2u * i + 1u, pair.y);
}

// Pair `i` of a list that begins at `first` of row `row`.
fn listed(row: u32, first: u32, i: u32) -> vec2<u32> {
    if (MERGE) { return pair_at(row * p.width + first + i); }
    return vec2<u32>(order_of(scores_load(row * p.width + first + i)), ~(first + i));
}

// Pair `i` of those that were collected.
fn kept(list: u32, i: u32) -> vec2<u32> {
    if (SPILL) { return pair_at(list * p.sorted + i); }
    return best[i];
}
fn keep(list: u32, i: u32, pair: vec2<u32>) {
    if (SPILL) { put_pair(list * p.sorted + i, pair); } else { best[i] = pair; }
}

fn comes_before(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x > b.x || (a.x == b.x && a.y > b.y); }

// Whether the highest `bytes` bytes of two pairs are equal.
fn agree(a: vec2<u32>, b: vec2<u32>, bytes: u32) -> bool {
    let order = select(~0u, ~(~0u >> (8u * min(bytes, 3u))), bytes < 4u);
    let place = select(0u, ~(~0u >> (8u * (max(bytes, 4u) - 4u))), bytes > 4u);
    return (((a.x ^ b.x) & order) | ((a.y ^ b.y) & place)) == 0u;
}

fn byte_of(pair: vec2<u32>, byte: u32) -> u32 {
    return (select(pair.y, pair.x, byte < 4u) >> (8u * (3u - (byte & 3u)))) & 255u;
}

// The sum of `x` of all lower invocations. Those from 256 on have nothing to add.
fn sum_below(lane: u32, x: u32) -> u32 {
    sums[lane] = x;
    workgroupBarrier();
    for (var step = 1u; step < min(WG, 256u); step = step * 2u) {
        var other = 0u;
        if (lane >= step) { other = sums[lane - step]; }
        workgroupBarrier();
        sums[lane] += other;
        workgroupBarrier();
    }
    return sums[lane] - x;
}

fn find_least(lane: u32, row: u32, first: u32, count: u32, taken: u32) {
    if (lane == 0u) {
        least = vec2<u32>();
        wanted = select(taken, 0u, taken == count);
    }
    for (var byte = 0u; byte < 8u; byte++) {
        let goal = workgroupUniformLoad(&wanted);
        if (goal == 0u) { break; }
        for (var i = lane; i < 256u * COPIES; i += WG) { atomicStore(&counts[i], 0u); }
        workgroupBarrier();
        let known = least;
        for (var i = lane; i < count; i += WG) {
            let pair = listed(row, first, i);
            if (agree(pair, known, byte)) { atomicAdd(&counts[byte_of(pair, byte) * COPIES + lane % COPIES], 1u); }
        }
        workgroupBarrier();
        // From the highest value down, which a share of values also goes.
        var own: array<u32, SHARE>;
        var sum = 0u;
        for (var j = 0u; j < SHARE; j++) {
            own[j] = 0u;
            let rank = lane * SHARE + j;
            if (rank < 256u) {
                for (var copy = 0u; copy < COPIES; copy++) {
                    own[j] += atomicLoad(&counts[(255u - rank) * COPIES + copy]);
                }
            }
            sum += own[j];
        }
        var above = sum_below(lane, sum);
        for (var j = 0u; j < SHARE; j++) {
            if (above < goal && above + own[j] >= goal) {
                let value = (255u - lane * SHARE - j) << (8u * (3u - (byte & 3u)));
                least = known | select(vec2<u32>(0u, value), vec2<u32>(value, 0u), byte < 4u);
                wanted = select(goal - above, 0u, above + own[j] == goal);
            }
            above += own[j];
        }
        workgroupBarrier();
    }
}

fn sort(lane: u32, list: u32) {
    for (var size = 2u; size <= p.sorted; size = size * 2u) {
        for (var step = size / 2u; step > 0u; step = step / 2u) {
            for (var i = lane; i < p.sorted / 2u; i += WG) {
                let low = 2u * i - (i & (step - 1u));
                let a = kept(list, low);
                let b = kept(list, low + step);
                if (comes_before(b, a) == ((low & size) == 0u)) {
                    keep(list, low, b);
                    keep(list, low + step, a);
                }
            }
            if (SPILL) { storageBarrier(); }
            workgroupBarrier();
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let list = group_number(group);
    if (list >= p.lists) { return; }
    let row = p.first_row + list / p.segments;
    let segment = list % p.segments;
    let first = segment * p.length;
    let count = min(p.length, p.width - first);
    let taken = min(p.taken, count);
    find_least(lane, row, first, count, taken);

    if (lane == 0u) { atomicStore(&found, 0u); }
    workgroupBarrier();
    let last = least;
    for (var i = lane; i < count; i += WG) {
        let pair = listed(row, first, i);
        if (!comes_before(last, pair)) {
            var place = i;
            if (taken < count) { place = atomicAdd(&found, 1u); }
            if (PART) {
                // Only a row's last list may be shorter: the pairs of a row have no gaps.
                put_pair(row * p.given + segment * p.taken + place, pair);
            } else {
                keep(list, place, pair);
            }
        }
    }
    if (PART) { return; }
    for (var i = taken + lane; i < p.sorted; i += WG) { keep(list, i, vec2<u32>()); }
    if (SPILL) { storageBarrier(); }
    workgroupBarrier();
    sort(lane, list);
    for (var j = lane; j < p.k; j += WG) {
        var place = -1;
        if (j < taken) {
            let pair = kept(list, j);
            if (pair.x > LEAST_SCORE) { place = bitcast<i32>(~pair.y); }
        }
        out_store(row * p.k + j, place);
    }
}
