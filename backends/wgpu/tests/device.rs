//! Devices from outside: none, two at once, and one from many threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_core::ops::{Embed, Operation};
use anychip_core::{DType, Device, Error, Stream, Tensor};
use std::process::Command;
use std::thread;

/// Rows of `table` (counts from `first`) by number, as often as it takes to keep the device busy.
fn work(device: &dyn Device, stream: &mut dyn Stream, first: i32) {
    const ROWS: usize = 64;
    let tensor = |sizes: &[usize]| device.tensor(DType::F32, sizes).unwrap();
    let (table, out) = (tensor(&[ROWS, 128]), tensor(&[ROWS, 1, 128]));
    let ids = device.tensor(DType::I32, &[ROWS]).unwrap();
    for turn in 0..20 {
        let values: Vec<f32> = (0..ROWS * 128).map(|i| (first + turn) as f32 + i as f32).collect();
        let rows: Vec<i32> = (0..ROWS as i32).rev().collect();
        stream.write(&table, bytemuck::cast_slice(&values)).unwrap();
        stream.write(&ids, bytemuck::cast_slice(&rows)).unwrap();
        let op = Embed { table: table.clone(), ids: ids.clone(), out: out.clone() }.build().unwrap();
        stream.enqueue(&op).unwrap();
        let event = stream.mark().unwrap();
        let mut bytes = vec![0; out.bytes() as usize];
        stream.read(&out, &mut bytes).unwrap();
        assert!(event.done_at().unwrap().is_some(), "what is before a read is done behind it");
        let want: Vec<f32> = values.chunks(128).rev().flatten().copied().collect();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes), want);
    }
}

#[test]
fn two_devices_at_once_share_nothing() {
    if !common::driver() {
        return;
    }
    let devices = [(); 2].map(|()| anychip_wgpu::open(None).unwrap());
    assert_ne!(devices[0].info().id, devices[1].info().id);
    thread::scope(|scope| {
        for (number, device) in devices.iter().enumerate() {
            scope.spawn(move || {
                let mut streams = [(); 3].map(|()| device.open_stream().unwrap());
                for (at, stream) in streams.iter_mut().enumerate() {
                    work(&**device, &mut **stream, (number * 1000 + at * 100) as i32);
                }
            });
        }
    });
    let mut stream = devices[0].open_stream().unwrap();
    let other: Tensor = devices[1].tensor(DType::F32, &[4]).unwrap();
    assert!(matches!(stream.write(&other, &[0; 16]), Err(Error::Foreign { .. })));
    let event = devices[1].open_stream().unwrap().mark().unwrap();
    assert!(matches!(stream.wait(&event), Err(Error::Foreign { .. })));
}

/// Threads that look at the driver at the same time are told of each other's work.
#[test]
fn one_device_from_many_threads() {
    if !common::driver() {
        return;
    }
    let device = anychip_wgpu::open(None).unwrap();
    thread::scope(|scope| {
        for number in 0..6 {
            let device = &device;
            scope.spawn(move || work(&**device, &mut *device.open_stream().unwrap(), number * 100));
        }
    });
}

/// Whether this is a process of the test's own; if not, the test is run in one, and has to pass there.
fn is_own_process(test: &str, envs: &[(&str, &str)]) -> bool {
    const CHILD: &str = "ANYCHIP_WGPU_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").envs(envs.iter().copied());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Bytes that this process has in memory.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// What is given, used and let go leaves nothing behind, neither with the device nor with its driver. Before the count begins
/// everything that is kept for later is there.
#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_rounds_leave_nothing_behind() {
    const LEFT: u64 = 4 << 20;
    if !common::driver() || !is_own_process("ten_thousand_rounds_leave_nothing_behind", &[]) {
        return;
    }
    let device = anychip_wgpu::open(None).unwrap();
    let mut stream = device.open_stream().unwrap();
    let mut before = 0;
    for round in 0..12_000 {
        if round == 2_000 {
            before = resident();
        }
        let tensor = device.tensor(DType::U8, &[16 << 10]).unwrap();
        stream.write(&tensor, &[round as u8; 16 << 10]).unwrap();
        if round % 64 == 0 {
            let mut bytes = vec![0; 16 << 10];
            stream.read(&tensor, &mut bytes).unwrap();
            assert!(bytes.iter().all(|&byte| byte == round as u8));
        }
    }
    stream.synchronize().unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < LEFT, "{grown} bytes of 160 MB were kept");
}

/// A process of its own, because a Vulkan loader looks for drivers once.
#[test]
fn without_a_driver_nothing_opens_and_the_mend_is_said() {
    const NONE: [(&str, &str); 2] = [("VK_ICD_FILENAMES", "/nonexistent"), ("VK_DRIVER_FILES", "/nonexistent")];
    if !is_own_process("without_a_driver_nothing_opens_and_the_mend_is_said", &NONE) {
        return;
    }
    assert_eq!(anychip_wgpu::descriptions(), Vec::<String>::new());
    for (number, name) in [(None, "wgpu"), (Some(0), "wgpu:0"), (Some(7), "wgpu:7")] {
        match anychip_wgpu::open(number).map(drop) {
            Err(Error::Unavailable { device, cause, mend }) => {
                assert_eq!((&*device, &*cause, &*mend), (name, "no Vulkan driver was found", anychip_wgpu::MEND));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_adapter_that_there_is_not_names_those_that_there_are() {
    if !common::driver() {
        return;
    }
    let count = anychip_wgpu::descriptions().len();
    match anychip_wgpu::open(Some(count)).map(drop) {
        Err(Error::Unavailable { device, mend, .. }) => {
            assert_eq!((device, mend), (format!("wgpu:{count}"), format!("use wgpu:0 to wgpu:{}", count - 1)));
        }
        other => panic!("{other:?}"),
    }
}
