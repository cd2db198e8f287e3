//! What takes this crate's internals to show: losing the device, what the driver refuses, what is counted, and both ways to
//! compile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/common/mod.rs"]
mod common;

use crate::Limits;
use crate::device::GpuDevice;
use crate::ops::KERNELS;
use crate::pipelines::Checks;
use crate::stream::GpuStream;
use anychip_conformance::{Case, Profile, Selection, cases, run_cases, when_lost};
use anychip_core::ops::{Embed, NAMES, Operation};
use anychip_core::{Activity, Buffer, DType, Device, Error, Op, Stream, Tensor};
use anychip_shaders::{Spec, Window};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The first adapter; `None` where there is no driver, and then the test says that it is skipped.
fn open() -> Option<GpuDevice> {
    common::driver().then(|| GpuDevice::open(None, Checks::OF_THIS_BUILD, |limits| limits).unwrap())
}

/// An operation with its operands written: rows 2, 0 and 9 (of which there is none) of a table of three.
struct Job {
    op: Op,
    out: Tensor,
}

const WANT: [f32; 6] = [5.0, 6.0, 1.0, 2.0, 0.0, 0.0];

impl Job {
    fn new(device: &dyn Device, stream: &mut dyn Stream) -> Job {
        let table = device.tensor(DType::F32, &[3, 2]).unwrap();
        let ids = device.tensor(DType::I32, &[3]).unwrap();
        let out = device.tensor(DType::F32, &[3, 1, 2]).unwrap();
        stream.write(&table, bytemuck::cast_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])).unwrap();
        stream.write(&ids, bytemuck::cast_slice(&[2i32, 0, 9])).unwrap();
        Job { op: Embed { table, ids, out: out.clone() }.build().unwrap(), out }
    }

    fn judge(&self, stream: &mut dyn Stream) {
        let mut bytes = [0; 24];
        stream.read(&self.out, &mut bytes).unwrap();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes), WANT);
    }
}

/// Whether a device does what it is there for.
fn works(device: &dyn Device) {
    let mut stream = device.open_stream().unwrap();
    let job = Job::new(device, &mut *stream);
    stream.enqueue(&job.op).unwrap();
    job.judge(&mut *stream);
}

fn is_lost<T>(result: anychip_core::Result<T>) {
    match result {
        Err(Error::DeviceLost { .. }) => {}
        Err(other) => panic!("must be lost, got: {other}"),
        Ok(_) => panic!("must be lost, got no error"),
    }
}

#[test]
fn a_lost_device_says_so_and_another_one_can_be_opened() {
    let Some(device) = open() else { return };
    let driver = device.shared.device.clone();
    when_lost(&device, || driver.destroy()).unwrap();
    let again = open().unwrap();
    works(&again);
    drop(device);
    works(&again);
}

#[test]
fn the_first_call_after_the_loss_says_so() {
    let Some(device) = open() else { return };
    device.shared.device.destroy();
    is_lost(device.allocate(64));
    let Some(device) = open() else { return };
    device.shared.device.destroy();
    is_lost(device.open_stream());
}

/// As where the chip is gone while somebody waits for it.
#[test]
fn a_driver_that_panics_is_a_device_that_is_lost() {
    let Some(device) = open() else { return };
    let mut stream = device.open_stream().unwrap();
    is_lost(device.shared.caught(|| panic!("as wgpu does")));
    is_lost(stream.synchronize());
    is_lost(device.allocate(64));
    works(&open().unwrap());
}

#[test]
fn a_device_that_is_lost_with_work_queued() {
    let Some(device) = open() else { return };
    let mut stream = device.open_stream().unwrap();
    let job = Job::new(&device, &mut *stream);
    let recording = stream.record(vec![job.op.clone()]).unwrap();
    stream.replay(&recording, &[]).unwrap();
    stream.enqueue(&job.op).unwrap();
    device.shared.device.destroy();
    is_lost(stream.read(&job.out, &mut [0; 24]));
    is_lost(stream.synchronize());
    is_lost(stream.mark());
    drop((recording, job));
    works(&open().unwrap());
}

#[test]
fn a_device_that_is_lost_with_work_submitted() {
    let Some(device) = open() else { return };
    let mut stream = device.open_stream().unwrap();
    let job = Job::new(&device, &mut *stream);
    let mut events = Vec::new();
    for _ in 0..50 {
        for _ in 0..20 {
            stream.enqueue(&job.op).unwrap();
        }
        events.push(stream.mark().unwrap());
    }
    stream.enqueue(&job.op).unwrap();
    device.shared.device.destroy();
    is_lost(stream.synchronize());
    for event in &events {
        // What was submitted may have been done before.
        match event.done_at() {
            Ok(Some(_)) => {}
            other => is_lost(other),
        }
    }
    is_lost(stream.wait(&events[0]));
    drop(stream);
    works(&open().unwrap());
}

#[test]
fn a_device_that_is_lost_under_other_threads() {
    let Some(device) = open() else { return };
    let lost = AtomicBool::new(false);
    thread::scope(|scope| {
        let (device, lost) = (&device, &lost);
        for _ in 0..3 {
            scope.spawn(move || {
                let run = || -> anychip_core::Result<()> {
                    let mut stream = device.open_stream()?;
                    let tensor = device.tensor(DType::U8, &[1 << 16])?;
                    let mut bytes = vec![7; 1 << 16];
                    stream.write(&tensor, &bytes)?;
                    let event = stream.mark()?;
                    stream.read(&tensor, &mut bytes)?;
                    event.done_at().map(drop)
                };
                loop {
                    let destroyed = lost.load(Ordering::Acquire);
                    match run() {
                        Ok(()) => assert!(!destroyed, "a device that was lost before goes on"),
                        other => return is_lost(other),
                    }
                }
            });
        }
        thread::sleep(std::time::Duration::from_millis(30));
        device.shared.device.destroy();
        lost.store(true, Ordering::Release);
    });
}

#[test]
fn a_kernel_that_does_not_compile_is_named_and_harms_nothing() {
    let Some(device) = open() else { return };
    let mut stream = device.open_stream().unwrap();
    let job = Job::new(&device, &mut *stream);
    // None of what its text asks for.
    let window = Window(1 << 20);
    let bad = Spec { kernel: "embed", variant: None, slots: Vec::new(), constants: Vec::new(), window };
    let unknown = Spec { kernel: "no_such", ..bad.clone() };
    for (spec, kernel) in [(bad, "`embed`"), (unknown, "`no_such`")] {
        match device.shared.pipeline(&spec, 0).map(drop) {
            Err(Error::Device { device, cause }) => {
                assert!(device == "wgpu" && cause.contains(kernel), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
    stream.enqueue(&job.op).unwrap();
    job.judge(&mut *stream);
}

/// A command that the driver's layer refuses fails its own stream, with the reason, and no other.
#[test]
fn a_refused_command_fails_its_stream_alone() {
    let Some(device) = open() else { return };
    let mut other = device.open_stream().unwrap();
    let job = Job::new(&device, &mut *other);
    other.enqueue(&job.op).unwrap();
    let mut stream = GpuStream::new(device.shared.clone());
    let tensor = device.tensor(DType::U8, &[64]).unwrap();
    stream.write(&tensor, &[1; 64]).unwrap();
    let (buffer, _) = device.shared.located(tensor.buffer(), 0, 64).unwrap();
    stream.encoder().unwrap().copy_buffer_to_buffer(buffer, 0, buffer, 1 << 20, 4);
    let first = stream.mark().map(drop).unwrap_err();
    assert!(matches!(&first, Error::Device { cause, .. } if cause.contains("same buffer")), "{first}");
    for later in [stream.synchronize(), stream.write(&tensor, &[2; 64]), stream.enqueue(&job.op)] {
        assert_eq!(later.unwrap_err(), first);
    }
    job.judge(&mut *other);
    works(&device);
}

/// An allocation beyond the driver's largest buffer has several: reads, writes, copies and kernels cross from one to the next.
#[test]
fn a_large_allocation_has_several_buffers() {
    const PART: u64 = 32 << 20;
    if !common::driver() {
        return;
    }
    // Bindings of less than a buffer, and bindings that would hold more.
    for binding_bytes in [PART / 2, 4 * PART] {
        let narrow = |limits| Limits { buffer_bytes: PART + 4, binding_bytes, ..limits };
        crosses_buffers(&GpuDevice::open(None, Checks::OF_THIS_BUILD, narrow).unwrap(), PART);
    }
}

fn crosses_buffers(device: &GpuDevice, part_bytes: u64) {
    let mut stream = device.open_stream().unwrap();
    let (rows, width) = (17 * 1024, 1024);
    let table = device.tensor(DType::F32, &[rows, width]).unwrap();
    let bytes: Vec<u8> = (0..table.bytes()).map(|i| (i ^ (i >> 8) ^ (i >> 17)) as u8 & 0x3f).collect();
    stream.write(&table, &bytes).unwrap();
    let mut got = vec![0; bytes.len()];
    stream.read(&table, &mut got).unwrap();
    assert!(got == bytes);

    // Whole words, then bytes: both across the first buffer's end, at other places in source and target.
    let other = device.allocate(table.bytes()).unwrap();
    let part = part_bytes as usize;
    for (from, to, len) in [(part - 64, part - 128, 300), (part - 5, part - 9, 25), (part / 2, 4 + part, part)] {
        let piece = |buffer: &Buffer, at: usize| Tensor::new(buffer, at as u64, DType::U8, &[len]).unwrap();
        let target = piece(&other, to);
        stream.copy(&piece(table.buffer(), from), &target).unwrap();
        let mut got = vec![0; len];
        stream.read(&target, &mut got).unwrap();
        assert!(got == bytes[from..from + len], "{len} bytes from {from} to {to}");
    }

    let ids = device.tensor(DType::I32, &[3]).unwrap();
    let out = device.tensor(DType::F32, &[3, 1, width]).unwrap();
    // The whole, and what begins within a window; then what is no more than a binding, around the first buffer's end.
    for (first, count) in [(0, rows), (5, rows - 5), (8190, 4)] {
        let at = (4 * width * first) as u64;
        let part = Tensor::new(table.buffer(), at, DType::F32, &[count, width]).unwrap();
        let wanted = [count - 1, 8192 - first.min(8190), 1];
        stream.write(&ids, bytemuck::cast_slice(&wanted.map(|i| i as i32))).unwrap();
        let op = Embed { table: part, ids: ids.clone(), out: out.clone() }.build().unwrap();
        stream.enqueue(&op).unwrap();
        let mut got = vec![0; out.bytes() as usize];
        stream.read(&out, &mut got).unwrap();
        let row = |i: usize| &bytes[4 * width * (first + i)..4 * width * (first + i + 1)];
        assert!(got == wanted.map(row).concat(), "{count} rows from {first}");
    }
}

/// Around the driver's largest buffer, where padding alone goes beyond it.
#[test]
fn allocations_around_the_largest_buffer() {
    let Some(device) = open() else { return };
    let most = device.shared.limits.buffer_bytes.min(device.info().max_allocation);
    for bytes in [most - 20, most - 7, most, most + 1, most + 40] {
        let given = device.allocate(bytes);
        assert_eq!(given.is_ok(), bytes <= device.info().max_allocation, "{bytes} of {most}: {given:?}");
    }
    works(&device);
}

#[test]
fn memory_is_counted_and_comes_back() {
    let Some(device) = open() else { return };
    let used = || device.shared.heap.used.load(Ordering::Relaxed);
    assert_eq!(used(), 0);
    let info = device.info();
    let too_much = info.max_allocation.checked_add(16).unwrap();
    for bytes in [too_much, u64::MAX] {
        match device.allocate(bytes) {
            Err(Error::OutOfMemory { requested, .. }) => assert_eq!(requested, bytes),
            other => panic!("{:?}", other.map(drop)),
        }
    }
    assert_eq!(used(), 0, "what was refused is not counted");
    let mut stream = device.open_stream().unwrap();
    let job = Job::new(&device, &mut *stream);
    let recording = stream.record(vec![job.op.clone()]).unwrap();
    assert_eq!(used(), 32 + 16 + 32);
    stream.replay(&recording, &[]).unwrap();
    drop((job, stream));
    assert_eq!(used(), 80, "the recording holds its operands");
    drop(recording);
    assert_eq!(used(), 0);
}

/// Resident memory of this process.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[test]
fn ten_thousand_rounds_leave_nothing_behind() {
    let Some(device) = open() else { return };
    let mut stream = device.open_stream().unwrap();
    let mut round = |i: usize| {
        let tensor = device.tensor(DType::U8, &[4096 + 16 * (i % 64)]).unwrap();
        if i.is_multiple_of(8) {
            stream.write(&tensor, &vec![i as u8; tensor.bytes() as usize]).unwrap();
        }
        if i.is_multiple_of(64) {
            stream.mark().unwrap();
        }
        if i.is_multiple_of(512) {
            stream.synchronize().unwrap();
        }
    };
    (0..2000).for_each(&mut round);
    let before = resident();
    (0..10_000).for_each(&mut round);
    if let (Some(before), Some(after)) = (before, resident()) {
        // Other tests run beside this one; each round's memory alone would be 40 MiB.
        assert!(after < before + (32 << 20), "{before} bytes grew to {after}");
    }
    drop(stream);
    assert_eq!(device.shared.heap.used.load(Ordering::Relaxed), 0);
}

#[test]
fn staging_memory_under_way_has_an_end() {
    let Some(device) = open() else { return };
    let mut stream = GpuStream::new(device.shared.clone());
    let tensor = device.tensor(DType::U8, &[24 << 20]).unwrap();
    let bytes = vec![3; 24 << 20];
    for _ in 0..20 {
        stream.write(&tensor, &bytes).unwrap();
        assert!(stream.staged() <= 256 << 20, "{}", stream.staged());
    }
    // Many small submissions.
    let small = device.tensor(DType::U8, &[4]).unwrap();
    for _ in 0..200 {
        stream.write(&small, &[1; 4]).unwrap();
        stream.mark().unwrap();
    }
    assert!(stream.submissions() <= 33, "{}", stream.submissions());
    stream.synchronize().unwrap();
    assert_eq!((stream.staged(), stream.submissions()), (0, 0));
}

#[test]
fn what_is_asked_of_the_driver_is_counted() {
    let Some(device) = open() else { return };
    let mut stream = device.open_stream().unwrap();
    let job = Job::new(&device, &mut *stream);
    let recording = stream.record(vec![job.op.clone(); 3]).unwrap();
    stream.synchronize().unwrap();
    let before = device.activity().unwrap();
    stream.replay(&recording, &[]).unwrap();
    job.judge(&mut *stream);
    let spent = device.activity().unwrap() - before;
    let moved = 3 * job.op.cost().bytes();
    assert_eq!(spent, Activity::new(1, 3, moved, 24), "a recording and the read behind it are one submission");
}

#[test]
fn there_is_a_kernel_for_every_operation() {
    assert_eq!(KERNELS, NAMES);
}

#[test]
fn only_builds_with_assertions_check() {
    let checks = Checks::OF_THIS_BUILD;
    assert_eq!((checks.bounds, checks.zeros), (cfg!(debug_assertions), cfg!(debug_assertions)));
}

/// What a release build runs: nothing checked on the device, workgroup memory as it is found. The tests of the catalogue run
/// the other way, in which an index out of bounds does no harm and memory begins as zeros.
#[test]
fn kernels_compute_the_same_without_checks() {
    if !common::driver() {
        return;
    }
    let device = GpuDevice::open(None, Checks { bounds: false, zeros: false }, |limits| limits).unwrap();
    works(&device);
    // Relations run the same kernels over the same operands again.
    let relation = |case: &Case| case.name.contains("/r4-") || case.name.contains("/r5-");
    let cases: Vec<Case> = cases(Profile::Quick, 0).into_iter().filter(|case| !relation(case)).collect();
    let report = run_cases(&device, &cases, &Selection::default(), &mut |_| true);
    let failures: Vec<String> = report.failures().map(|failure| failure.to_string()).collect();
    assert!(report.passed && failures.is_empty(), "{failures:#?}");
}
