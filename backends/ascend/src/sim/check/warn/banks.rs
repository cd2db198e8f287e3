//! Banks of UB (W1).
//!
//! UB gives a register of 256 bytes as eight rows of 32 bytes at once, if they lie in different banks. Bits 5 to 8 of an address
//! choose among 16 places that can be read at once: 16 groups on the 910B, 8 groups of two banks on the 950. A group takes one
//! row to be written. What meets in one place takes turns.

use super::Where;
use crate::isa::{Blocks, Body, Place};
use crate::machine::{Arch, Profile, Space};
use crate::sim::hazard::{Bytes, Code, Hazard};

/// Bytes of a row of a bank, and rows of a register.
const ROW: u64 = 32;
const ROWS: u64 = 8;
/// Registers of an instruction that are looked at: those behind them lie alike.
const SAMPLE: u64 = 4;
/// A unit with fewer registers to move is not looked at.
const LEAST: f64 = 64.0;
/// Turns that are lost, by turns that are needed: two operands in the same banks stay below, rows at a distance of all banks
/// come to 7.
const LOST: f64 = 1.0;

/// Turns of an instruction.
#[derive(Clone, Copy, Default)]
struct Turns {
    needed: f64,
    lost: f64,
    registers: f64,
}

pub(super) fn conflicts(profile: &Profile, place: &Where<'_>) -> Option<Hazard> {
    // The bits that tell groups apart.
    let groups = if profile.arch == Arch::V3510 { 8 } else { 16 };
    let mut all = Turns::default();
    let mut worst: Option<(f64, usize, Blocks)> = None;
    for (index, instr) in place.instrs.iter().enumerate().filter(|(_, instr)| matches!(instr.body, Body::Vector(_))) {
        let (mut reads, mut writes) = (Operands::default(), Operands::default());
        instr.accesses(place.unit, &mut |access| {
            if let Place::Local(Space::Ub, _) = access.place {
                if access.write { &mut writes } else { &mut reads }.add(access.blocks);
            }
        });
        let turns = turns(&reads, &writes, groups);
        all.needed += turns.needed;
        all.lost += turns.lost;
        all.registers += turns.registers;
        if worst.is_none_or(|(lost, ..)| turns.lost > lost)
            && let Some(blocks) = writes.widest().or(reads.widest())
        {
            worst = Some((turns.lost, index, blocks));
        }
    }
    let (_, index, blocks) = worst.filter(|_| all.registers >= LEAST && all.lost >= LOST * all.needed)?;
    let detail = format!(
        "{:.0} turns are needed, {:.0} more are lost: what is taken at once lies {} bytes apart",
        all.needed, all.lost, blocks.pitch
    );
    place.warn(
        Code::BankConflict,
        index,
        Some(Bytes::of(Place::Local(Space::Ub, place.unit), &blocks, &|_| String::new())),
        detail,
    )
}

/// Operands of an instruction: few, so that they need no list of their own.
#[derive(Default)]
struct Operands {
    all: [Option<Blocks>; 6],
    count: usize,
}

impl Operands {
    fn add(&mut self, blocks: Blocks) {
        if let Some(free) = self.all.get_mut(self.count).filter(|_| blocks.count > 0) {
            *free = Some(blocks);
            self.count += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Blocks> {
        self.all.iter().flatten()
    }

    /// The one whose rows are farthest apart.
    fn widest(&self) -> Option<Blocks> {
        self.iter().copied().max_by_key(|blocks| blocks.pitch)
    }

    /// Turns that one register of each takes, with those that are needed at least.
    fn turns(&self, register: u64, places: usize) -> (u64, u64) {
        let (mut busy, mut rows) = ([0u64; 16], 0);
        for blocks in self.iter() {
            let across = blocks.len.div_ceil(ROW).max(1);
            for row in register * ROWS..((register + 1) * ROWS).min(across * blocks.count) {
                let at = blocks.at + row / across * blocks.pitch + row % across * ROW;
                busy[(at / ROW) as usize % places] += 1;
                rows += 1;
            }
        }
        (busy.into_iter().max().unwrap_or(0), u64::div_ceil(rows, places as u64))
    }
}

fn turns(reads: &Operands, writes: &Operands, groups: usize) -> Turns {
    let rows = |blocks: &Blocks| blocks.len.div_ceil(ROW).max(1) * blocks.count;
    let registers = reads.iter().chain(writes.iter()).map(rows).max().unwrap_or(0).div_ceil(ROWS);
    let sample = registers.min(SAMPLE);
    let mut turns = Turns { registers: registers as f64, ..Turns::default() };
    for register in 0..sample {
        for (taken, needed) in [reads.turns(register, 16), writes.turns(register, groups)] {
            turns.needed += needed as f64;
            turns.lost += (taken - needed) as f64;
        }
    }
    let whole = registers as f64 / sample.max(1) as f64;
    Turns { needed: turns.needed * whole, lost: turns.lost * whole, ..turns }
}
