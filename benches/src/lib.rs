//! Criterion benchmarks of anychip devices, each result judged before it is timed.
