//! Criterion's side of a [`Subject`].

use anychip_bench::record::{Outcome, Record};
use anychip_bench::{BenchError, Subject};
use anychip_conformance::Builder;
use anychip_core::{Device, Error, Op, Result};
use criterion::{Criterion, Throughput};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;

/// The shapes of one operation on one device.
pub(crate) struct Shapes {
    op: &'static str,
    device: Box<dyn Device>,
    criterion: Criterion,
    /// The file for [`Record`]s that `ANYCHIP_BENCH_REPORT` names.
    report: Option<PathBuf>,
    failed: bool,
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
    let report = std::env::var_os("ANYCHIP_BENCH_REPORT").map(PathBuf::from);
    let mut shapes = Shapes { op, device, criterion, report, failed: false };
    add(&mut shapes);
    shapes.criterion.final_summary();
    if shapes.failed {
        std::process::exit(1);
    }
}

impl Shapes {
    /// Benchmarks one shape. A device that does not run it is passed over; a wrong result ends everything, but for a
    /// report: a device that is hard to come by should not lose the other shapes.
    pub(crate) fn add(&mut self, shape: &str, build: impl FnOnce(&mut Builder<'_>) -> Result<Op>) {
        match catch_unwind(AssertUnwindSafe(|| self.bench(shape, build))) {
            Ok(Some(outcome)) => self.report(shape, outcome),
            Ok(None) => {}
            Err(panic) if self.report.is_none() => resume_unwind(panic),
            Err(panic) => {
                self.failed = true;
                let error = panic.downcast::<String>().map_or_else(|_| "a panic".into(), |text| *text);
                self.report(shape, Outcome::Failed { error });
            }
        }
    }

    /// `None` where the command line chose other shapes.
    fn bench(&mut self, shape: &str, build: impl FnOnce(&mut Builder<'_>) -> Result<Op>) -> Option<Outcome> {
        let name = format!("{}/{shape}", self.op);
        let mut subject = match Subject::new(&*self.device, &name, build) {
            Err(BenchError::Device(unsupported @ Error::Unsupported { .. })) => {
                println!("{name}: passed over: {unsupported}");
                return Some(Outcome::PassedOver { reason: unsupported.to_string() });
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
        let timed = or_stop(&label, subject.finish_timed())?;
        println!("{label}: right before and after; worst error {:.3} of its tolerance\n", timed.worst);
        Some(Outcome::Timed(Box::new(timed)))
    }

    fn report(&self, shape: &str, outcome: Outcome) {
        let Some(file) = &self.report else { return };
        let info = self.device.info();
        let record = Record {
            op: self.op.into(),
            shape: shape.into(),
            device: info.name,
            description: info.description,
            outcome,
        };
        or_stop(&file.display().to_string(), record.append(file));
    }
}

/// The value; an error fails `cargo bench`, for which there is no other way.
#[allow(clippy::panic)]
fn or_stop<T, E: std::fmt::Display>(name: &str, result: std::result::Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{name}: {error}"))
}
