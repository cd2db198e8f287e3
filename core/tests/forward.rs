//! A wrapper passes on every method of `Device` and `Stream`, provided ones too, and asks its hook first.
#![allow(clippy::unwrap_used, missing_docs)]

use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
use anychip_core::ops::Hadamard;
use anychip_core::{
    Activity, Buffer, DType, Device, DeviceId, DeviceInfo, Event, EventState, Memory, Numerics, Op, Operation,
    Recording, Result, Stream, Support, Tensor, Timestamp,
};
use std::sync::{Arc, Mutex};

/// Names of the methods that were called, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<&'static str>>>);

impl Calls {
    fn add(&self, name: &'static str) {
        self.0.lock().unwrap().push(name);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Writes down what it is called for, and overrides everything: each answer differs from the contract's default.
struct Noting {
    id: DeviceId,
    calls: Calls,
}

impl Noting {
    fn stream(&self) -> NotingStream {
        NotingStream { id: self.id, calls: self.calls.clone() }
    }
}

struct Nothing;

impl Memory for Nothing {}

impl EventState for Nothing {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Device for Noting {
    fn info(&self) -> DeviceInfo {
        self.calls.add("info");
        DeviceInfo::new(self.id, "noting", "a test")
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.calls.add("allocate");
        Ok(Buffer::new(self.id, bytes, Box::new(Nothing)))
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        self.calls.add("open_stream");
        Ok(Box::new(self.stream()))
    }

    fn supports(&self, _: &Op) -> Support {
        self.calls.add("supports");
        Support::Native
    }

    fn numerics(&self, _: &Op) -> Numerics {
        self.calls.add("numerics");
        Numerics { function_ulps: 7.0, ..Numerics::f32() }
    }

    fn fallbacks(&self) -> Vec<(&'static str, u64)> {
        self.calls.add("fallbacks");
        vec![("hadamard", 3)]
    }

    fn activity(&self) -> Option<Activity> {
        self.calls.add("activity");
        Some(Activity::new(1, 2, 3, 4))
    }

    fn tensor(&self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.calls.add("tensor");
        Ok(Tensor::new(&Buffer::new(self.id, 4096, Box::new(Nothing)), 0, dtype, sizes)?)
    }
}

struct NotingStream {
    id: DeviceId,
    calls: Calls,
}

#[deny(clippy::missing_trait_methods)]
impl Stream for NotingStream {
    fn write(&mut self, _: &Tensor, _: &[u8]) -> Result<()> {
        self.calls.add("write");
        Ok(())
    }

    fn read(&mut self, _: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.calls.add("read");
        bytes.fill(9);
        Ok(())
    }

    fn enqueue(&mut self, _: &Op) -> Result<()> {
        self.calls.add("enqueue");
        Ok(())
    }

    fn synchronize(&mut self) -> Result<()> {
        self.calls.add("synchronize");
        Ok(())
    }

    fn mark(&mut self) -> Result<Event> {
        self.calls.add("mark");
        Ok(Event::new(self.id, Arc::new(Nothing)))
    }

    fn wait(&mut self, _: &Event) -> Result<()> {
        self.calls.add("wait");
        Ok(())
    }

    fn copy(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
        self.calls.add("copy");
        Ok(())
    }

    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        self.calls.add("record");
        Ok(Recording::kept_as(ops, Box::new(Nothing)))
    }

    fn replay(&mut self, _: &Recording, _: &[(&Tensor, &[u8])]) -> Result<()> {
        self.calls.add("replay");
        Ok(())
    }
}

/// Changes nothing.
struct Plain(Recordings);

impl Hooks for Plain {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        self.0
    }
}

/// Answers every call itself and lets none through, but for the stream that it is given to work with.
struct Deaf(Noting);

#[deny(clippy::missing_trait_methods)]
impl Hooks for Deaf {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::Whole
    }

    fn info(&self, _: &dyn Device) -> DeviceInfo {
        self.0.info()
    }

    fn allocate(&self, _: &dyn Device, bytes: u64) -> Result<Buffer> {
        self.0.allocate(bytes)
    }

    fn open_stream(&self, inner: &dyn Device) -> Result<Box<dyn Stream>> {
        self.0.calls.add("open_stream");
        inner.open_stream()
    }

    fn supports(&self, _: &dyn Device, op: &Op) -> Support {
        self.0.supports(op)
    }

    fn numerics(&self, _: &dyn Device, op: &Op) -> Numerics {
        self.0.numerics(op)
    }

    fn fallbacks(&self, _: &dyn Device) -> Vec<(&'static str, u64)> {
        self.0.fallbacks()
    }

    fn activity(&self, _: &dyn Device) -> Option<Activity> {
        self.0.activity()
    }

    fn tensor(&self, _: &dyn Device, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.0.tensor(dtype, sizes)
    }

    fn write(&self, _: &mut Inner<'_>, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.0.stream().write(to, bytes)
    }

    fn read(&self, _: &mut Inner<'_>, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.0.stream().read(from, bytes)
    }

    fn enqueue(&self, _: &mut Inner<'_>, op: &Op) -> Result<()> {
        self.0.stream().enqueue(op)
    }

    fn synchronize(&self, _: &mut Inner<'_>) -> Result<()> {
        self.0.stream().synchronize()
    }

    fn mark(&self, _: &mut Inner<'_>) -> Result<Event> {
        self.0.stream().mark()
    }

    fn wait(&self, _: &mut Inner<'_>, event: &Event) -> Result<()> {
        self.0.stream().wait(event)
    }

    fn copy(&self, _: &mut Inner<'_>, from: &Tensor, to: &Tensor) -> Result<()> {
        self.0.stream().copy(from, to)
    }

    fn record(&self, _: &mut Inner<'_>, ops: Vec<Op>) -> Result<Recording> {
        self.0.stream().record(ops)
    }

    fn replay(&self, _: &mut Inner<'_>, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        self.0.stream().replay(recording, updates)
    }
}

/// Calls every method once and looks at what comes back; `calls` then holds what was noted.
fn call_all(device: &dyn Device, id: DeviceId) {
    assert_eq!(device.info().id, id);
    assert_eq!(device.allocate(5).unwrap().bytes(), 5);
    let mut stream = device.open_stream().unwrap();
    let x = device.tensor(DType::F32, &[1, 4]).unwrap();
    assert_eq!(x.buffer().bytes(), 4096);
    let out = Tensor::new(&Buffer::new(id, 16, Box::new(Nothing)), 0, DType::F32, &[1, 4]).unwrap();
    let op = Hadamard { x: x.clone(), out: out.clone() }.build().unwrap();
    assert!(device.supports(&op).is_native());
    assert_eq!(device.numerics(&op).function_ulps, 7.0);
    assert_eq!(device.fallbacks(), [("hadamard", 3)]);
    assert_eq!(device.activity(), Some(Activity::new(1, 2, 3, 4)));
    let mut bytes = [0; 16];
    stream.write(&x, &bytes).unwrap();
    stream.read(&out, &mut bytes).unwrap();
    assert_eq!(bytes, [9; 16]);
    stream.enqueue(&op).unwrap();
    stream.synchronize().unwrap();
    let event = stream.mark().unwrap();
    assert_eq!(event.device(), id);
    stream.wait(&event).unwrap();
    stream.copy(&x, &out).unwrap();
    let recording = stream.record(vec![op]).unwrap();
    assert!(recording.kept::<Nothing>().is_some());
    stream.replay(&recording, &[(&x, &bytes)]).unwrap();
}

const ALL: [&str; 17] = [
    "info",
    "allocate",
    "open_stream",
    "tensor",
    "supports",
    "numerics",
    "fallbacks",
    "activity",
    "write",
    "read",
    "enqueue",
    "synchronize",
    "mark",
    "wait",
    "copy",
    "record",
    "replay",
];

/// The methods that the contract's source declares.
fn declared() -> Vec<&'static str> {
    let source = include_str!("../src/device.rs");
    let blocks = ["pub trait Device", "pub trait Stream"].map(|start| {
        let (_, block) = source.split_once(start).unwrap();
        block.split_once("\n}\n").unwrap().0
    });
    let lines = blocks.into_iter().flat_map(str::lines);
    lines.filter_map(|line| line.strip_prefix("    fn ")?.split('(').next()).collect()
}

#[test]
fn every_method_arrives_once_as_it_was_called() {
    let (id, calls) = (DeviceId::unique(), Calls::default());
    let device = Wrapped::new(Box::new(Noting { id, calls: calls.clone() }), Plain(Recordings::Whole));
    call_all(&device, id);
    assert_eq!(calls.take(), ALL);
}

#[test]
fn every_method_has_a_hook() {
    let (id, calls, below) = (DeviceId::unique(), Calls::default(), Calls::default());
    let inner = Box::new(Noting { id, calls: below.clone() });
    call_all(&Wrapped::new(inner, Deaf(Noting { id, calls: calls.clone() })), id);
    assert_eq!(calls.take(), ALL);
    assert_eq!(below.take(), ["open_stream"]);
}

#[test]
fn the_tests_here_know_every_method_of_the_contract() {
    let (mut all, mut declared) = (ALL.to_vec(), declared());
    all.sort_unstable();
    declared.sort_unstable();
    assert_eq!(all, declared);
}

/// Sees operations and writes, and passes them on.
struct Watching {
    how: Recordings,
    seen: Calls,
}

impl Hooks for Watching {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        self.how
    }

    fn write(&self, inner: &mut Inner<'_>, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.seen.add("write");
        inner.stream.write(to, bytes)
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        self.seen.add("enqueue");
        inner.stream.enqueue(op)
    }
}

#[test]
fn a_replay_by_operation_passes_the_hooks_and_a_whole_one_does_not() {
    let by_operation: (&[&str], &[&str]) =
        (&["write", "enqueue", "enqueue"], &["tensor", "open_stream", "write", "enqueue", "enqueue"]);
    let whole: (&[&str], &[&str]) = (&[], &["tensor", "open_stream", "record", "replay"]);
    for (how, (hooked, arrived)) in [(Recordings::ByOperation, by_operation), (Recordings::Whole, whole)] {
        let (id, calls, seen) = (DeviceId::unique(), Calls::default(), Calls::default());
        let inner: Arc<dyn Device> = Arc::new(Noting { id, calls: calls.clone() });
        // A second wrapper that passes recordings on whole gets around nothing of the first.
        let first = Wrapped::shared(inner, Watching { how, seen: seen.clone() });
        let device = Wrapped::new(Box::new(first), Plain(Recordings::Whole));
        let x = device.tensor(DType::F32, &[1, 4]).unwrap();
        let out = Tensor::new(&Buffer::new(id, 16, Box::new(Nothing)), 0, DType::F32, &[1, 4]).unwrap();
        let op = Hadamard { x: x.clone(), out }.build().unwrap();
        let mut stream = device.open_stream().unwrap();
        let recording = stream.record(vec![op.clone(), op]).unwrap();
        stream.replay(&recording, &[(&x, &[0; 16])]).unwrap();
        assert_eq!((&seen.take()[..], &calls.take()[..]), (hooked, arrived), "{how:?}");
    }
}
