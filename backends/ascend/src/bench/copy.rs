//! Transfers alone: what the memory gives.

use super::{BenchError, Case, Shape};
use crate::isa::{Elem, Global, Tile};
use crate::kernel::{Context, Kernel};
use crate::machine::{Profile, Space};
use crate::sim::{Code, Gm, Options, capacity, launch};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Into UB, by vector halves.
    GmUb,
    /// Into fractals of L1, by cube halves.
    GmL1,
    /// Out of UB.
    UbGm,
}

impl Direction {
    pub(super) const ALL: [(&str, Direction); 3] =
        [("gm-ub", Direction::GmUb), ("gm-l1", Direction::GmL1), ("ub-gm", Direction::UbGm)];
}

/// `bytes`, in `tile`s, in a `direction`; rows of `n` elements; in `parts` that are each copied `times` times.
pub(super) fn case(profile: &Profile, shape: &Shape) -> Result<Case, BenchError> {
    shape.only(&["bytes", "tile", "direction", "n", "parts", "times"])?;
    let bytes = shape.size("bytes", Some(12288 * 12288 * 2), u32::MAX)?;
    let cols = shape.size("n", Some(12288), 1 << 24)?;
    let rows = bytes / 2 / cols;
    let tile = shape.pair("tile", [64, 1024])?;
    let direction = shape.word("direction", &Direction::ALL)?;
    let (parts, times) = (shape.size("parts", Some(1), 64)?, shape.size("times", Some(1), 64)?);
    if rows < parts || cols < tile[1] {
        let problem =
            format!("{bytes} bytes of f16 are {rows} rows of {cols}; tiles are {} wide, parts {parts}", tile[1]);
        return Err(BenchError::Shape { problem });
    }
    let room = capacity(profile, if direction == Direction::GmL1 { Space::L1 } else { Space::Ub });
    let bytes = Tile::rows_of(Space::Ub, 0, Elem::F16, tile[0].next_multiple_of(16), tile[1]).end() as usize;
    if bytes > room {
        let problem = format!("a tile of {} x {} of f16 has to fit {room} bytes", tile[0], tile[1]);
        return Err(BenchError::Shape { problem });
    }
    let copy = |region, rows: u32, cols: u32, cores| Copy {
        cores,
        direction,
        region,
        rows: rows.into(),
        cols: cols.into(),
        tile,
        parts: parts.into(),
        times: times.into(),
        buffers: (room / bytes).min(2),
    };
    check(profile, &|region| copy(region, (3 * tile[0] + 1) * parts, 2 * tile[1] + 3, 2))?;
    let mut gm = Gm::default();
    let region = gm.phantom("x", u64::from(rows) * u64::from(cols) * 2);
    let kernel = copy(region, rows, cols, profile.figures.cube_cores as usize);
    Ok(Case::new(kernel, gm, "a small copy has no hazards and touches every byte"))
}

/// A copy computes nothing. Bytes that are read must be defined, and those that are written all there.
fn check(profile: &Profile, copy: &dyn Fn(u16) -> Copy) -> Result<(), BenchError> {
    let Copy { rows, cols, direction, .. } = copy(0);
    let mut bytes = vec![0; Elem::F16.bytes((rows * cols) as usize)];
    let mut gm = Gm::default();
    let region = if direction == Direction::UbGm { gm.output("x", &mut bytes) } else { gm.input("x", &bytes) };
    let report = launch(profile, &copy(region), &gm, Options::checked());
    // Nobody reads what is loaded: which of two transfers into a buffer is the last is all the same.
    let loads = direction != Direction::UbGm;
    match report.hazards.errors().find(|hazard| !(loads && hazard.code == Code::Race)) {
        None => Ok(()),
        Some(hazard) => Err(BenchError::Wrong { problem: hazard.to_string() }),
    }
}

/// A matrix of f16 that all cores copy tile by tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub(super) cores: usize,
    pub(super) direction: Direction,
    pub(super) region: u16,
    pub(super) rows: u64,
    pub(super) cols: u64,
    /// Rows and columns of a tile.
    pub(super) tile: [u32; 2],
    /// Equal parts that the matrix has, each of which is copied `times` times before the next.
    pub(super) parts: u64,
    pub(super) times: u64,
    /// Places that tiles go to in turn.
    pub(super) buffers: usize,
}

impl Kernel for Copy {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        if self.direction == Direction::GmL1 {
            let [rows, cols] = self.tile;
            let buffers: Vec<Tile> =
                (0..self.buffers).map(|_| cx.cube_tile(Space::L1, Elem::F16, rows, cols)).collect();
            self.each(cx, |cx, turn, from| cx.load_nd2nz(from, of(buffers[turn % self.buffers], from)));
        }
    }

    fn vector(&self, cx: &mut Context<'_>) {
        if self.direction == Direction::GmL1 {
            return;
        }
        let [rows, cols] = self.tile;
        let buffers: Vec<Tile> = (0..self.buffers).map(|_| cx.ub(Elem::F16, rows, cols)).collect();
        if self.direction == Direction::UbGm {
            for &buffer in &buffers {
                cx.bcast(buffer, 1.0);
            }
            cx.barrier_all();
        }
        self.each(cx, |cx, turn, gm| match self.direction {
            Direction::UbGm => cx.store(of(buffers[turn % self.buffers], gm), gm),
            _ => cx.load_ub(gm, of(buffers[turn % self.buffers], gm)),
        });
    }
}

/// A buffer cut down to what is left at the matrix's edge.
fn of(buffer: Tile, gm: Global) -> Tile {
    Tile { rows: gm.rows, cols: gm.cols, ..buffer }
}

impl Copy {
    /// Calls `f` with this unit's tiles.
    fn each(&self, cx: &mut Context<'_>, mut f: impl FnMut(&mut Context<'_>, usize, Global)) {
        let [height, width] = self.tile.map(u64::from);
        let rows = self.rows / self.parts.max(1);
        let across = self.cols.div_ceil(width);
        let pitch = Elem::F16.bytes(self.cols as usize) as u64;
        let mut turn = 0;
        for part in 0..self.parts {
            for _ in 0..self.times {
                for tile in cx.share(rows.div_ceil(height) * across) {
                    let (row, col) = (tile / across * height, tile % across * width);
                    let at = (part * rows + row) * pitch + 2 * col;
                    let (rows, cols) = (height.min(rows - row), width.min(self.cols - col));
                    let gm = Global {
                        region: self.region,
                        at,
                        elem: Elem::F16,
                        rows: rows as u32,
                        cols: cols as u32,
                        pitch,
                    };
                    f(cx, turn, gm);
                    turn += 1;
                }
            }
        }
    }
}
