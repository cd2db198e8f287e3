//! Criterion's side of a [`Subject`].

use anychip_bench::{BenchError, Subject};
use anychip_conformance::Builder;
use anychip_core::{Device, Error, Op, Result};
use criterion::{Criterion, Throughput};
use std::time::Duration;

/// The shapes of one operation on one device.
pub(crate) struct Shapes {
    op: &'static str,
    device: Box<dyn Device>,
    criterion: Criterion,
}

/// Runs the benchmarks of `op` that `add` adds, on the device that `ANYCHIP_BENCH_DEVICE` names.
pub(crate) fn main(op: &'static str, add: impl FnOnce(&mut Shapes)) {
    let name = std::env::var("ANYCHIP_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    let device = or_stop(op, anychip_bench::open(&name));
    let info = device.info();
    println!("# {op} on {} ({}), {} clock; an element is a FLOP", info.name, info.description, info.clock);
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1));
    // What the command line says comes last and wins.
    let criterion = criterion.measurement_time(Duration::from_secs(3)).configure_from_args();
    let mut shapes = Shapes { op, device, criterion };
    add(&mut shapes);
    shapes.criterion.final_summary();
}

impl Shapes {
    /// Benchmarks one shape. A device that does not run it is passed over; a wrong result ends everything.
    pub(crate) fn add(&mut self, shape: &str, build: impl FnOnce(&mut Builder<'_>) -> Result<Op>) {
        let name = format!("{}/{shape}", self.op);
        let mut subject = match Subject::new(&*self.device, &name, build) {
            Err(BenchError::Device(unsupported @ Error::Unsupported { .. })) => {
                return println!("{name}: passed over: {unsupported}");
            }
            other => or_stop(&name, other),
        };
        let (label, cost) = (subject.label(), subject.cost());
        let mut group = self.criterion.benchmark_group(self.op);
        group.throughput(Throughput::ElementsAndBytes { elements: cost.flops, bytes: cost.bytes() });
        group.bench_function(&label[self.op.len() + 1..], |bencher| {
            // Not within the routine: criterion takes its time there for warming up. Only the first call judges.
            or_stop(&label, subject.judge());
            bencher.iter_custom(|iterations| or_stop(&label, subject.time(iterations)));
        });
        group.finish();
        if let Some(worst) = or_stop(&label, subject.finish()) {
            println!("{label}: right before and after; worst error {worst:.3} of its tolerance\n");
        }
    }
}

/// The value; an error fails `cargo bench`, for which there is no other way.
#[allow(clippy::panic)]
fn or_stop<T>(name: &str, result: std::result::Result<T, BenchError>) -> T {
    result.unwrap_or_else(|error| panic!("{name}: {error}"))
}
