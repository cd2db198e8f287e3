
// How a softmax over parts of its keys ends: weighted values under a maximum, and the sum of the weights.

// What is subtracted from scores whose largest is `x`: any number does, but -inf less -inf is none.
fn finite_base(x: f32) -> f32 { return select(x, 0.0, x == -infinity()); }

// What values under `largest` are multiplied with at the end; the sink joins the denominator. Without keys it is zero.
fn last_factor(largest: f32, sum: f32, sink: f32) -> f32 {
    if (largest == -infinity() && sum == 0.0) { return 0.0; }
    let base = finite_base(select(largest, sink, sink > largest));
    let factor = exp_of(largest - base);
    return factor / (sum * factor + exp_of(sink - base));
}
