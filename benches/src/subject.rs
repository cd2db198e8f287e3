//! One operation on one device, judged before and after it is timed.

use crate::{BenchError, ORACLE_BYTES, Wrong, verdict};
use anychip_conformance::Builder;
use anychip_core::{Access, Clock, Cost, Device, Error, Op, Result, Stream, Tensor, host};
use anychip_reference::{Bounded, Output};
use std::time::{Duration, Instant};

/// The seed of all operands: a benchmark has the same ones on every machine.
const SEED: u64 = 0;

/// An operation on a device, with its operands also in host memory, where the oracle reads them.
pub struct Subject<'a> {
    name: String,
    device: &'a dyn Device,
    stream: Box<dyn Stream>,
    op: Op,
    host_op: Op,
    /// What is right, once the oracle was asked.
    wanted: Option<Vec<Output<Bounded>>>,
    /// Largest error over tolerance so far.
    worst: f64,
    fell_back: bool,
    clock: Clock,
}

impl<'a> Subject<'a> {
    /// Builds the operation, copies its operands to the device and runs it there once; the oracle is not asked yet.
    /// `name` is `operation/shape`, and operands follow from it alone.
    ///
    /// # Errors
    /// [`BenchError::Failed`]: the description is invalid, or the device fails or does not run the operation.
    pub fn new(
        device: &'a dyn Device,
        name: &str,
        build: impl FnOnce(&mut Builder<'_>) -> Result<Op>,
    ) -> Result<Subject<'a>, BenchError> {
        let begin = || {
            let host = anychip_reference::open(ORACLE_BYTES);
            let host_op = build(&mut Builder::new(&*host, name, SEED)?)?;
            let mut stream = device.open_stream()?;
            let op = host_op.rebind(&mut |_, _, tensor| {
                let own = device.tensor(tensor.dtype(), tensor.sizes())?;
                stream.write(&own, host::read(tensor)?.bytes())?;
                Ok(own)
            })?;
            device.supports(&op).require(&device.info().name, op.name())?;
            let before = fallbacks(device);
            stream.enqueue(&op)?;
            stream.synchronize()?;
            let fell_back = fallbacks(device) > before;
            // No device's own clock sees work that the host passed to another one.
            let clock = if fell_back { Clock::Host } else { device.info().clock };
            Ok(Subject { name: name.into(), device, stream, op, host_op, wanted: None, worst: 0.0, fell_back, clock })
        };
        begin().map_err(|cause| BenchError::Failed { subject: format!("{name}/{}", device.info().name), cause })
    }

    /// `operation/shape/device@clock`, with `+fallback` after the device where another one did the work.
    pub fn label(&self) -> String {
        let fallback = if self.fell_back { "+fallback" } else { "" };
        format!("{}/{}{fallback}@{}", self.name, self.device.info().name, self.clock)
    }

    /// The clock of [`time`](Subject::time).
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The least work that computes the operation.
    pub fn cost(&self) -> Cost {
        self.op.cost()
    }

    /// Judges what the device left behind, the first time it is called, and makes ready for timing.
    ///
    /// # Errors
    /// [`BenchError::Wrong`], and after it nothing can be timed; [`BenchError::Failed`].
    pub fn judge(&mut self) -> Result<(), BenchError> {
        if self.wanted.is_none() {
            let wanted = anychip_reference::judge(&self.host_op, &self.device.numerics(&self.op));
            let wanted = wanted.map_err(|cause| self.failed(cause))?;
            self.compare(&wanted)?;
            self.arm().map_err(|cause| self.failed(cause))?;
            self.wanted = Some(wanted);
        }
        Ok(())
    }

    /// Time of `iterations` runs, each queued and waited for, on [`clock`](Subject::clock); judges first.
    ///
    /// # Errors
    /// As [`judge`](Subject::judge); [`BenchError::OtherClock`].
    pub fn time(&mut self, iterations: u64) -> Result<Duration, BenchError> {
        self.judge()?;
        let timed = if self.clock == Clock::Host { self.host_time(iterations) } else { self.event_time(iterations) };
        match timed.map_err(|cause| self.failed(cause))? {
            (time, clock) if clock == self.clock => Ok(time),
            (_, got) => Err(BenchError::OtherClock { subject: self.label(), declared: self.clock, got }),
        }
    }

    /// Judges what the timed runs left behind. Gives the largest error over tolerance, `None` if nothing was timed.
    ///
    /// The outputs were overwritten before those runs, so that a device that stopped computing is caught. State that each
    /// run carries on is first put back, and the operation run once more.
    ///
    /// # Errors
    /// As [`judge`](Subject::judge).
    pub fn finish(mut self) -> Result<Option<f64>, BenchError> {
        let Some(wanted) = self.wanted.take() else { return Ok(None) };
        if self.op.operands().iter().any(|(_, access, _)| *access == Access::ReadWrite) {
            let again = self.arm().and_then(|()| self.stream.enqueue(&self.op));
            again.map_err(|cause| self.failed(cause))?;
        }
        self.compare(&wanted)?;
        Ok(Some(self.worst))
    }

    fn host_time(&mut self, iterations: u64) -> Result<(Duration, Clock)> {
        let start = Instant::now();
        for _ in 0..iterations {
            self.stream.enqueue(&self.op)?;
            self.stream.synchronize()?;
        }
        Ok((start.elapsed(), Clock::Host))
    }

    fn event_time(&mut self, iterations: u64) -> Result<(Duration, Clock)> {
        let (mut nanos, mut clock) = (0, self.clock);
        for _ in 0..iterations {
            let start = self.stream.mark()?;
            self.stream.enqueue(&self.op)?;
            let end = self.stream.mark()?;
            self.stream.synchronize()?;
            let elapsed = end.since(&start)?;
            (nanos, clock) = (nanos + elapsed.nanos, elapsed.clock);
        }
        Ok((Duration::from_nanos(nanos), clock))
    }

    /// Each operand by name and use, on the device and in host memory.
    fn operands(&self) -> impl Iterator<Item = (&'static str, Access, Tensor, Tensor)> + use<> {
        let both = self.op.operands().into_iter().zip(self.host_op.operands());
        both.map(|((name, access, own), (_, _, host))| (name, access, own, host))
    }

    /// Puts back what written operands held before the first run: NaN, other poison, carried state.
    fn arm(&mut self) -> Result<()> {
        for (_, _, own, host) in self.operands().filter(|(_, access, ..)| *access != Access::Read) {
            self.stream.write(&own, host::read(&host)?.bytes())?;
        }
        self.stream.synchronize()
    }

    fn compare(&mut self, wanted: &[Output<Bounded>]) -> Result<(), BenchError> {
        for (name, access, own, host) in self.operands() {
            let mut got = vec![0; own.bytes() as usize];
            self.stream.read(&own, &mut got).map_err(|cause| self.failed(cause))?;
            let ratio = if access == Access::Read {
                let before = host::read(&host).map_err(|cause| self.failed(cause))?;
                verdict::unchanged(name, &got, before.bytes()).map(|()| 0.0)
            } else {
                let no_oracle = || Error::Device { device: "reference".into(), cause: format!("it gives no {name}") };
                let want = wanted.iter().find(|w| w.operand == name).ok_or_else(|| self.failed(no_oracle()))?;
                verdict::output(name, own.dtype(), &got, &want.values)
            };
            self.worst =
                self.worst.max(ratio.map_err(|wrong: Wrong| BenchError::Wrong { subject: self.label(), wrong })?);
        }
        Ok(())
    }

    fn failed(&self, cause: Error) -> BenchError {
        BenchError::Failed { subject: self.label(), cause }
    }
}

/// How often any operation ran elsewhere.
fn fallbacks(device: &dyn Device) -> u64 {
    device.fallbacks().iter().map(|(_, count)| count).sum()
}
