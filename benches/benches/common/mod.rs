//! What the benchmarks of all operations share: criterion's side of a [`Subject`].

use anychip_bench::{BenchError, Subject};
use anychip_conformance::Builder;
use anychip_core::{Device, Error, Op, Result};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::time::Duration;

/// The shapes of one operation on one device.
pub(crate) struct Shapes {
    op: &'static str,
    device: Box<dyn Device>,
    criterion: Criterion,
}

/// Runs the benchmarks of `op` that `add` adds.
pub(crate) fn main(op: &'static str, add: impl FnOnce(&mut Shapes)) {
    let device = or_stop(anychip_bench::open_from_env());
    let info = device.info();
    println!(
        "# {op} on {}: {}; {} clock. An element of the throughput is a FLOP.",
        info.name, info.description, info.clock
    );
    // The command line comes last and wins.
    let (warm_up, measured) = (Duration::from_secs(1), Duration::from_secs(3));
    let criterion = Criterion::default().sample_size(20).warm_up_time(warm_up).measurement_time(measured);
    let mut shapes = Shapes { op, device, criterion: criterion.configure_from_args() };
    add(&mut shapes);
    shapes.criterion.final_summary();
}

impl Shapes {
    /// Benchmarks one shape. A device that does not run it says so and goes on; a wrong result ends everything.
    pub(crate) fn add(&mut self, shape: &str, build: impl FnOnce(&mut Builder<'_>) -> Result<Op>) {
        let mut subject = match Subject::new(&*self.device, &format!("{}/{shape}", self.op), build) {
            Err(BenchError::Failed { subject, cause: cause @ Error::Unsupported { .. } }) => {
                println!("{subject}: skipped: {cause}");
                return;
            }
            other => or_stop(other),
        };
        let (label, cost) = (subject.label(), subject.cost());
        let mut group = self.criterion.benchmark_group(self.op);
        group.throughput(Throughput::ElementsAndBytes { elements: cost.flops, bytes: cost.bytes() });
        let id = label.strip_prefix(self.op).map_or(&*label, |rest| rest.trim_start_matches('/'));
        group.bench_function(BenchmarkId::from_parameter(id), |bencher| {
            // Outside of the routine, whose time criterion counts as warming up. Only the first call judges.
            or_stop(subject.judge());
            bencher.iter_custom(|iterations| or_stop(subject.time(iterations)));
        });
        group.finish();
        if let Some(worst) = or_stop(subject.finish()) {
            println!("{label}: right before and after it was timed; its worst error is {worst:.3} of the tolerance\n");
        }
    }
}

#[allow(clippy::panic)] // The one way to make `cargo bench` fail.
fn or_stop<T>(result: std::result::Result<T, BenchError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
