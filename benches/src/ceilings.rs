//! What a device reaches on the two things that bound every operation: copying, and one large product.
//!
//! Sizes grow until a run is long enough to say something, so that a GPU and a driver in software are measured alike. No
//! oracle could multiply such matrices: they repeat a small one, and so must the result.

use crate::record::Spread;
use crate::{BenchError, prelude::*};
use anychip_conformance::judge_output;
use anychip_core::{Clock, Device, Error, Stream, Tensor, host};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Rows of the small matrices: as many as share the scale of a weight's block.
const TILE: usize = 128;
const RUNS: usize = 20;
/// Neither does a launch matter in a run of this length, nor do runs of it take long.
const LONG_ENOUGH: Duration = Duration::from_millis(5);
/// Beyond every cache, and little enough for any card.
const LARGEST_COPY: u64 = 512 << 20;
const LARGEST_SIDE: usize = 8192;

/// A measured limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceiling {
    /// `copy`, counted in bytes read and written, or `gemm`, counted in FLOPs.
    pub kind: String,
    /// What was copied or multiplied: `bytes`, `bf16`, `f32`, `e4m3`.
    pub format: String,
    /// Size in words.
    pub size: String,
    /// Bytes or FLOPs of a run.
    pub work: u64,
    /// `host`, `device` or `simulated`.
    pub clock: String,
    /// The times.
    #[serde(flatten)]
    pub spread: Spread,
}

/// Measures a device; what it does not run is left out.
///
/// # Errors
/// [`BenchError::Wrong`] where it copied or multiplied wrongly, [`BenchError::Device`].
pub fn measure(device: &dyn Device) -> Result<Vec<Ceiling>, BenchError> {
    let mut all = vec![copy(device)?];
    const F32: Format = Format::Plain(DType::F32);
    for (name, x, w) in [("bf16", BF16, BF16), ("f32", F32, F32), ("e4m3", E4M3_ROWS, E4M3_BLOCKS)] {
        match gemm(device, name, x, w) {
            Err(BenchError::Device(Error::Unsupported { .. })) => {}
            other => all.push(other?),
        }
    }
    Ok(all)
}

fn copy(device: &dyn Device) -> Result<Ceiling, BenchError> {
    let mut stream = device.open_stream()?;
    let (mut bytes, mut times) = (1 << 20, 1);
    loop {
        let pair = [device.tensor(DType::U8, &[bytes])?, device.tensor(DType::U8, &[bytes])?];
        let pattern: Vec<u8> = (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
        stream.write(&pair[0], &pattern)?;
        let spread = repeat(device, &mut *stream, &mut |s| (0..times).try_for_each(|_| s.copy(&pair[0], &pair[1])))?;
        let (next, wanted) = (bytes as u64 * 4, LONG_ENOUGH.as_nanos() as f64);
        if spread.median_ns < wanted && next <= LARGEST_COPY.min(device.info().max_allocation) {
            bytes = next as usize;
            continue;
        }
        // What is larger than caches may still be copied in no time.
        if spread.median_ns < wanted && times == 1 {
            times = (wanted / spread.median_ns.max(1.0)).ceil().min(100.0) as u64;
            continue;
        }
        let mut got = vec![0; bytes];
        stream.read(&pair[1], &mut got)?;
        if got != pattern {
            return Err(BenchError::Wrong("a copy differs from what was copied".into()));
        }
        let size = format!("{} MiB, {times} in a row", bytes >> 20);
        return Ok(ceiling(device, ["copy", "bytes", &size], 2 * bytes as u64 * times, spread));
    }
}

fn gemm(device: &dyn Device, name: &str, x: Format, w: Format) -> Result<Ceiling, BenchError> {
    let mut side = 4 * TILE;
    loop {
        let product = Product::new(device, x, w, side)?;
        let mut stream = device.open_stream()?;
        let op = product.on(device, &mut *stream)?;
        let spread = repeat(device, &mut *stream, &mut |s| s.enqueue(&op))?;
        if spread.median_ns < LONG_ENOUGH.as_nanos() as f64 && side < LARGEST_SIDE {
            side *= 2;
            continue;
        }
        product.judge(device, &mut *stream, &op)?;
        return Ok(ceiling(device, ["gemm", name, &format!("{side} x {side} x {side}")], op.cost().flops, spread));
    }
}

/// A product of matrices that repeat `TILE` rows, in host memory.
struct Product {
    small: Op,
    x: Matrix,
    w: Matrix,
    side: usize,
}

impl Product {
    fn new(device: &dyn Device, x: Format, w: Format, side: usize) -> Result<Product, BenchError> {
        let memory = anychip_reference::open(u64::MAX / 2);
        let mut b = Builder::new(&*memory, &format!("ceilings/{}", device.info().name), 0)?;
        let x = b.matrix(x, [1, TILE, side], Family::Normal, 1.0)?;
        let w = b.matrix(w, [1, TILE, side], Family::Normal, (side as f32).sqrt().recip())?;
        let out = if w.format() == Format::Plain(DType::F32) { DType::F32 } else { DType::BF16 };
        let small = Linear { x: x.clone(), w: w.clone(), out: b.output(out, &[TILE, TILE])? }.build()?;
        Ok(Product { small, x, w, side })
    }

    fn on(&self, device: &dyn Device, stream: &mut dyn Stream) -> Result<Op> {
        let (x, w) = (self.repeated(device, stream, &self.x)?, self.repeated(device, stream, &self.w)?);
        let out = if self.w.format() == Format::Plain(DType::F32) { DType::F32 } else { DType::BF16 };
        let op = Linear { x, w, out: device.tensor(out, &[self.side, self.side])? }.build()?;
        device.supports(&op).require(&device.info().name, op.name())?;
        Ok(op)
    }

    fn repeated(&self, device: &dyn Device, stream: &mut dyn Stream, small: &Matrix) -> Result<Matrix> {
        let times = self.side / TILE;
        let mut rows = |tensor: &Tensor| -> Result<Tensor> {
            let sizes = [1, tensor.size(1) * times, tensor.size(2)];
            let large = device.tensor(tensor.dtype(), &sizes)?;
            stream.write(&large, &host::read(tensor)?.bytes().repeat(times))?;
            Ok(large)
        };
        let codes = rows(small.codes())?;
        Ok(match small.scales() {
            Some((scales, layout)) => Matrix::scaled(&codes, &rows(scales)?, layout)?,
            None => Matrix::plain(&codes)?,
        })
    }

    /// One tile of every row of tiles is compared with the oracle's.
    fn judge(&self, device: &dyn Device, stream: &mut dyn Stream, op: &Op) -> Result<(), BenchError> {
        let outputs = op.operands();
        let Some((name, _, large)) = outputs.last() else { return Ok(()) };
        let mut got = vec![0; large.bytes() as usize];
        stream.read(large, &mut got)?;
        let wanted = anychip_reference::judge(&self.small, &device.numerics(op))?;
        let tiles = self.side / TILE;
        let width = TILE * large.dtype().bits() as usize / 8;
        for (row, want) in (0..tiles).flat_map(|row| wanted.iter().map(move |want| (row, want))) {
            let column = (7 * row + 3) % tiles;
            let line = |i: usize| ((row * TILE + i) * tiles + column) * width;
            let tile: Vec<u8> = (0..TILE).flat_map(|i| &got[line(i)..line(i) + width]).copied().collect();
            judge_output(name, &want.tensor, &tile, &want.values)
                .map_err(|wrong| BenchError::Wrong(format!("tile {row}, {column} of a product: {wrong}")))?;
        }
        Ok(())
    }
}

/// Times a few runs, fewer where they are long; the first half warms up.
fn repeat(
    device: &dyn Device,
    stream: &mut dyn Stream,
    queue: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
) -> Result<Spread, BenchError> {
    queue(stream)?;
    stream.synchronize()?;
    let (begun, mut runs) = (Instant::now(), Vec::new());
    while runs.len() < RUNS && (runs.len() < 2 || begun.elapsed() < 40 * LONG_ENOUGH) {
        let since = Instant::now();
        if device.info().clock == Clock::Host {
            queue(stream)?;
            stream.synchronize()?;
            runs.push(since.elapsed());
            continue;
        }
        let start = stream.mark()?;
        queue(stream)?;
        let end = stream.mark()?;
        stream.synchronize()?;
        runs.push(Duration::from_nanos(end.since(&start)?.nanos));
    }
    Spread::of(&runs[runs.len() / 2..]).ok_or_else(|| BenchError::Wrong("no run was timed".into()))
}

fn ceiling(device: &dyn Device, [kind, format, size]: [&str; 3], work: u64, spread: Spread) -> Ceiling {
    let clock = device.info().clock.to_string();
    Ceiling { kind: kind.into(), format: format.into(), size: size.into(), work, clock, spread }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_product_that_repeats_is_judged() {
        let device = anychip_cpu::open();
        let product = Product::new(&*device, E4M3_ROWS, E4M3_BLOCKS, 2 * TILE).unwrap();
        let mut stream = device.open_stream().unwrap();
        let op = product.on(&*device, &mut *stream).unwrap();
        stream.enqueue(&op).unwrap();
        product.judge(&*device, &mut *stream, &op).unwrap();
        let (_, _, out) = op.operands().pop().unwrap();
        stream.write(&out, &vec![0; out.bytes() as usize]).unwrap();
        let wrong = product.judge(&*device, &mut *stream, &op).unwrap_err().to_string();
        assert!(wrong.contains("tile 0, 1 of a product"), "{wrong}");
    }
}
