//! One operation on one device, judged before and after it is timed.

use crate::BenchError;
use crate::record::{Spread, Timed};
use anychip_conformance::{Builder, judge_output};
use anychip_core::{Access, Clock, Cost, DType, Device, Error, Op, Recording, Result, Stream, Tensor, host};
use anychip_reference::{Bounded, Output};
use std::time::{Duration, Instant};

/// What keeps a device busy while the host prepares the run that is timed.
const LEAD: Duration = Duration::from_micros(300);
/// Runs of this length do not notice what the host does before them.
const LONG: Duration = Duration::from_millis(1);

/// An operation on a device, with its operands also in host memory, where the oracle reads them.
pub struct Subject<'a> {
    name: String,
    device: &'a dyn Device,
    stream: Box<dyn Stream>,
    op: Op,
    recording: Recording,
    host_op: Op,
    /// What is right, once the oracle was asked and the device was right.
    wanted: Option<Vec<Output<Bounded>>>,
    worst: f64,
    fell_back: bool,
    clock: Clock,
    /// Time of each run so far.
    runs: Vec<Duration>,
}

impl<'a> Subject<'a> {
    /// Builds the operation, copies its operands to the device and runs it there once; the oracle is not asked yet.
    /// `name` is `operation/shape`, and operands follow from it alone: they are the same on every device.
    ///
    /// # Errors
    /// [`BenchError::Device`].
    pub fn new(
        device: &'a dyn Device,
        name: &str,
        build: impl FnOnce(&mut Builder<'_>) -> Result<Op>,
    ) -> Result<Subject<'a>, BenchError> {
        let host = anychip_reference::open(u64::MAX / 2);
        let host_op = build(&mut Builder::new(&*host, name, 0)?)?;
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
        let recording = stream.record(vec![op.clone()])?;
        // No device's clock sees work that the host handed to another device.
        let clock = if fell_back { Clock::Host } else { device.info().clock };
        Ok(Subject {
            name: name.into(),
            device,
            stream,
            op,
            recording,
            host_op,
            wanted: None,
            worst: 0.0,
            fell_back,
            clock,
            runs: vec![],
        })
    }

    /// `operation/shape/device@clock`, with `+fallback` after the device where another one did the work.
    pub fn label(&self) -> String {
        let fallback = if self.fell_back { "+fallback" } else { "" };
        format!("{}/{}{fallback}@{}", self.name, self.device.info().name, self.clock)
    }

    /// The least work that computes the operation.
    pub fn cost(&self) -> Cost {
        self.op.cost()
    }

    /// The clock of its times.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether another device did the work.
    pub fn fell_back(&self) -> bool {
        self.fell_back
    }

    /// Element types of what the operation reads, each once.
    pub fn reads(&self) -> Vec<DType> {
        let mut types = Vec::new();
        for (_, access, own, _) in self.operands() {
            if access != Access::Write && !types.contains(&own.dtype()) {
                types.push(own.dtype());
            }
        }
        types
    }

    /// Where the times of single runs lie, `None` before there are any. The earlier half counts as warming up: how long
    /// a caller warms up is not known here.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.runs[self.runs.len() / 2..])
    }

    /// Judges what the device left behind, the first time it is called, and makes ready for timing.
    ///
    /// # Errors
    /// [`BenchError::Wrong`], [`BenchError::Device`]. After an error nothing can be timed.
    pub fn judge(&mut self) -> Result<(), BenchError> {
        if self.wanted.is_none() {
            let wanted = anychip_reference::judge(&self.host_op, &self.device.numerics(&self.op))?;
            self.compare(&wanted)?;
            self.arm()?;
            self.wanted = Some(wanted);
        }
        Ok(())
    }

    /// Time of `iterations` runs, each queued and waited for, on the clock that the label names; judges first. On a device's
    /// clock short runs come behind others that are not timed, so that the host's work for them is done by then.
    ///
    /// # Errors
    /// As [`judge`](Subject::judge); [`Error::ClockMismatch`] when events are timed by another clock.
    pub fn time(&mut self, iterations: u64) -> Result<Duration, BenchError> {
        self.judge()?;
        let mut sum = Duration::ZERO;
        for _ in 0..iterations {
            let run = self.once()?;
            self.runs.push(run);
            sum += run;
        }
        Ok(sum)
    }

    fn once(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        if self.clock == Clock::Host {
            self.stream.enqueue(&self.op)?;
            self.stream.synchronize()?;
            return Ok(begun.elapsed());
        }
        let lead = match self.runs.iter().min() {
            Some(least) if self.clock == Clock::Device && *least < LONG => {
                LEAD.div_duration_f64(*least).min(1000.0) as u64
            }
            _ => 0,
        };
        for _ in 0..lead {
            self.stream.replay(&self.recording, &[])?;
        }
        let start = self.stream.mark()?;
        self.stream.replay(&self.recording, &[])?;
        let end = self.stream.mark()?;
        self.stream.synchronize()?;
        let elapsed = end.since(&start)?;
        if elapsed.clock != self.clock {
            return Err(Error::ClockMismatch(elapsed.clock, self.clock));
        }
        Ok(Duration::from_nanos(elapsed.nanos))
    }

    /// Judges what the timed runs left behind. Gives the largest error over tolerance, `None` if nothing was judged.
    ///
    /// The outputs were poisoned before those runs, so that a device that no longer computes is caught. State that each
    /// run carries on is put back first, and the operation run once more.
    ///
    /// # Errors
    /// As [`judge`](Subject::judge).
    pub fn finish(mut self) -> Result<Option<f64>, BenchError> {
        self.judge_again()
    }

    fn judge_again(&mut self) -> Result<Option<f64>, BenchError> {
        let Some(wanted) = self.wanted.take() else { return Ok(None) };
        if self.op.operands().iter().any(|(_, access, _)| *access == Access::ReadWrite) {
            self.arm()?;
            self.stream.enqueue(&self.op)?;
        }
        self.compare(&wanted)?;
        Ok(Some(self.worst))
    }

    /// As [`finish`](Subject::finish), with what a report needs; `None` if nothing was timed.
    ///
    /// # Errors
    /// As [`judge`](Subject::judge).
    pub fn finish_timed(mut self) -> Result<Option<Timed>, BenchError> {
        let worst = self.judge_again()?;
        Ok(worst.and_then(|worst| Timed::of(&self, worst)))
    }

    /// Each operand by name and use, on the device and in host memory.
    fn operands(&self) -> impl Iterator<Item = (&'static str, Access, Tensor, Tensor)> + use<> {
        let both = self.op.operands().into_iter().zip(self.host_op.operands());
        both.map(|((name, access, own), (_, _, host))| (name, access, own, host))
    }

    /// Puts back what written operands held before the first run: poison, or carried state.
    fn arm(&mut self) -> Result<()> {
        for (_, _, own, host) in self.operands().filter(|(_, access, ..)| *access != Access::Read) {
            self.stream.write(&own, host::read(&host)?.bytes())?;
        }
        self.stream.synchronize()
    }

    fn compare(&mut self, wanted: &[Output<Bounded>]) -> Result<(), BenchError> {
        for (name, access, own, host) in self.operands() {
            let mut got = vec![0; own.bytes() as usize];
            self.stream.read(&own, &mut got)?;
            let ratio = match wanted.iter().find(|want| want.operand == name) {
                Some(want) => judge_output(name, &own, &got, &want.values),
                None if access == Access::Read => match got == host::read(&host)?.bytes() {
                    true => Ok(0.0),
                    false => Err(format!("the device changed its input {name}")),
                },
                None => Err(format!("the oracle says nothing about {name}")),
            };
            self.worst = self.worst.max(ratio.map_err(BenchError::Wrong)?);
        }
        Ok(())
    }
}

/// How often any operation ran elsewhere.
fn fallbacks(device: &dyn Device) -> u64 {
    device.fallbacks().iter().map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::prelude::*;
    use anychip_core::forward::{Hooks, Recordings, Wrapped};
    use anychip_core::host::{HostDevice, Kernels};
    use anychip_core::{DeviceInfo, Numerics, Support, WithFallback};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Doubles a row the number of times `right`, then leaves the output as it is.
    struct Faulty {
        right: u64,
        runs: AtomicU64,
        element: f32,
    }

    impl Kernels for Faulty {
        fn supports(&self, op: &Op) -> Support {
            if self.right == 0 { Support::unsupported("operation", "none", op.name()) } else { Support::Native }
        }

        fn numerics(&self, _op: &Op) -> Numerics {
            Numerics::f32()
        }

        fn run(&self, op: &Op) -> Result<()> {
            let OpKind::Linear(op) = op.kind() else { return Ok(()) };
            if self.runs.fetch_add(1, Ordering::Relaxed) < self.right {
                let x = host::read(op.x.codes())?.as_slice::<f32>().to_vec();
                let mut out = host::write(&op.out)?;
                out.as_mut_slice::<f32>().copy_from_slice(&[2.0 * x[0], 2.0 * x[1] + self.element]);
            }
            Ok(())
        }
    }

    fn device(right: u64, element: f32) -> Box<dyn Device> {
        Box::new(HostDevice::open("faulty", "", 1 << 20, Faulty { right, runs: AtomicU64::new(0), element }))
    }

    fn doubled(b: &mut Builder<'_>) -> Result<Op> {
        let x = Matrix::plain(&b.floats(DType::F32, &[1, 2], &[0.3, 0.7])?)?;
        let w = Matrix::plain(&b.floats(DType::F32, &[2, 2], &[2.0, 0.0, 0.0, 2.0])?)?;
        Linear { x, w, out: b.output(DType::F32, &[1, 2])? }.build()
    }

    #[test]
    fn a_wrong_result_is_not_timed() {
        let device = device(u64::MAX, 1e-5);
        let mut subject = Subject::new(&*device, "linear/doubled", doubled).unwrap();
        for _ in 0..2 {
            let error = subject.time(1).unwrap_err().to_string();
            assert!(error.starts_with("refused to time a wrong result: R2: out[0, 1]: 1 of 2 elements"), "{error}");
        }
    }

    #[test]
    fn a_right_result_is_timed_and_judged_again() {
        let right = device(u64::MAX, 0.0);
        let mut subject = Subject::new(&*right, "linear/doubled", doubled).unwrap();
        assert!(subject.spread().is_none() && subject.time(3).is_ok());
        assert_eq!(subject.spread().unwrap().runs, 2, "the first of three warmed up");
        assert!(subject.finish().unwrap().unwrap() <= 1.0);
        let lazy = device(1, 0.0);
        let mut subject = Subject::new(&*lazy, "linear/doubled", doubled).unwrap();
        assert!(subject.time(3).is_ok(), "it was right once");
        assert!(matches!(subject.finish(), Err(BenchError::Wrong(what)) if what.contains("2 of 2")));
    }

    #[test]
    fn a_fallback_shows_in_the_label() {
        let none = device(0, 0.0);
        let refused = Subject::new(&*none, "linear/doubled", doubled).err().unwrap();
        assert!(matches!(refused, BenchError::Device(Error::Unsupported { .. })), "{refused}");
        let device = WithFallback::new(none, anychip_cpu::open());
        let subject = Subject::new(&device, "linear/doubled", doubled).unwrap();
        assert_eq!(subject.label(), "linear/doubled/faulty+fallback@host");
    }

    /// The CPU, under another clock than its events have.
    struct Claims;

    impl Hooks for Claims {
        fn recordings(&self, _: &dyn Device) -> Recordings {
            Recordings::Whole
        }

        fn info(&self, inner: &dyn Device) -> DeviceInfo {
            let mut info = inner.info();
            info.clock = Clock::Simulated;
            info
        }
    }

    #[test]
    fn a_time_of_another_clock_is_refused() {
        let device = Wrapped::new(anychip_cpu::open(), Claims);
        let mut subject = Subject::new(&device, "linear/doubled", doubled).unwrap();
        assert_eq!(subject.label(), "linear/doubled/cpu@simulated");
        let refused = subject.time(1).unwrap_err();
        assert!(
            matches!(refused, BenchError::Device(Error::ClockMismatch(Clock::Host, Clock::Simulated))),
            "{refused}"
        );
    }
}
