//! Bytes of operands that several cores touch (E13).

use super::clock::{Arrivals, Clocks, Passed, lane};
use crate::isa::{Access, Blocks};
use crate::kernel::Program;
use crate::sim::global::Gm;
use crate::sim::hazard::{At, Bytes, Code, Hazard, Hazards};
use crate::sim::order::Next;

/// What a core did to operands that the launch writes.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    all: Vec<Touch>,
    /// Barriers of all cores that instructions had passed, each state once.
    passed: Vec<Passed>,
    pub(super) arrivals: Arrivals,
}

#[derive(Clone, Copy, Debug)]
struct Touch {
    region: u16,
    blocks: Blocks,
    write: bool,
    atomic: bool,
    /// Which of the states of barriers it had passed.
    passed: u32,
    lane: usize,
    tick: u32,
    by: Next,
}

impl Touches {
    pub(super) fn add(&mut self, region: u16, access: &Access, by: Next, clocks: &Clocks) {
        let passed = clocks.of(by).passed();
        // States come one after the other; an old one is looked for only among the latest.
        let state = self.passed.iter().rposition(|known| known == passed).unwrap_or_else(|| {
            self.passed.push(*passed);
            self.passed.len() - 1
        });
        let Access { blocks, write, atomic, .. } = *access;
        let (lane, tick, passed) = (lane(by.unit, by.pipe), clocks.tick(by), state as u32);
        self.all.push(Touch { region, blocks, write, atomic, passed, lane, tick, by });
    }
}

/// A row of bytes that a core touches.
#[derive(Clone, Copy, Debug)]
struct Row {
    from: u64,
    to: u64,
    core: usize,
    touch: Touch,
}

/// Bytes that two cores touch, one of them writing, with no barrier of all cores between.
pub(crate) fn shared(programs: &[Program], gm: &Gm<'_>, cores: &[Touches], hazards: &mut Hazards) {
    let barriers = cores.iter().any(|core| !core.arrivals.is_empty());
    for region in 0..gm.len() as u16 {
        let mut rows = rows(cores, region, barriers);
        rows.sort_by_key(|row| row.from);
        // Rows that reach beyond the one that is looked at.
        let mut open: Vec<Row> = Vec::new();
        for row in rows {
            open.retain(|other| other.to > row.from);
            if let Some(other) = open.iter().find(|other| clash(cores, other, &row)) {
                let at = |row: &Row| {
                    let Next { unit, index, .. } = row.touch.by;
                    let instr = &programs[row.core].unit(unit)[index];
                    At::new(instr.name(), row.core, unit, index, instr.line)
                };
                let bytes = Bytes { space: gm.name(region).into(), from: row.from, to: row.to.min(other.to) };
                hazards.add(Hazard {
                    code: Code::SharedOutput,
                    at: at(&row),
                    with: Some(at(other)),
                    bytes: Some(bytes),
                    detail: "no barrier of all cores is between them".into(),
                });
            }
            // One that covers another's bytes and is as strict will do for both.
            let covered = |other: &Row| {
                other.core == row.core && other.to >= row.to && stricter(&other.touch, &row.touch, barriers)
            };
            if !open.iter().any(covered) {
                open.push(row);
            }
        }
    }
}

/// Rows that cores touch. A tile that is taken up again is one row, not many.
fn rows(cores: &[Touches], region: u16, barriers: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (core, touches) in cores.iter().enumerate() {
        for touch in touches.all.iter().filter(|touch| touch.region == region) {
            let Blocks { len, .. } = touch.blocks;
            for at in touch.blocks.starts() {
                match rows.last_mut() {
                    Some(last)
                        if last.core == core
                            && stricter(touch, &last.touch, barriers)
                            && stricter(&last.touch, touch, barriers)
                            && (last.from..=last.to).contains(&at) =>
                    {
                        last.to = last.to.max(at + len);
                    }
                    _ => rows.push(Row { from: at, to: at + len, core, touch: *touch }),
                }
            }
        }
    }
    rows
}

/// Whether one clashes with whatever the other does. Without barriers it does not matter when either was.
fn stricter(a: &Touch, b: &Touch, barriers: bool) -> bool {
    let later = a.passed == b.passed && a.lane == b.lane && a.tick >= b.tick;
    (a.write, a.atomic) == (b.write, b.atomic) && (later || !barriers)
}

fn clash(cores: &[Touches], a: &Row, b: &Row) -> bool {
    let written = (a.touch.write || b.touch.write) && !(a.touch.atomic && b.touch.atomic);
    let before = |first: &Row, second: &Row| {
        let Touches { arrivals, .. } = &cores[first.core];
        arrivals.before(first.touch.lane, first.touch.tick, &cores[second.core].passed[second.touch.passed as usize])
    };
    a.core != b.core && written && !before(a, b) && !before(b, a)
}
