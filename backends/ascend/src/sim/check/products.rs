//! Products in a row: those that come too fast (E11), and unit flags of products and transfers that do not fit (E12).

use super::Found;
use crate::isa::{Barrier, Blocks, Body, CHAINED, Instr, Pipe, Place, Unit, UnitFlag};
use crate::kernel::Program;
use crate::machine::Space;
use crate::sim::hazard::{At, Code, Hazard, Hazards};
use crate::sim::order::Next;
use std::collections::BTreeMap;

/// Products that follow one another.
#[derive(Debug, Default)]
pub(super) struct Products {
    /// Sums of the last product since a barrier.
    last: Option<(Blocks, u32, Next)>,
    /// Coupled products whose sums were not fetched yet.
    coupled: BTreeMap<u64, (UnitFlag, Next)>,
}

impl Products {
    pub(super) fn observe(&mut self, next: Next, instr: &Instr) -> Vec<Found> {
        let mut found = Vec::new();
        let mut add = |code, with, blocks, detail| {
            let bytes = Some((Place::Local(Space::L0c, Unit::Aic), blocks));
            found.push(Found { code, with, bytes, detail });
        };
        match &instr.body {
            // Vector halves have barriers of their own.
            Body::Barrier(Barrier::Pipe(Pipe::M) | Barrier::All) if next.unit == Unit::Aic => self.last = None,
            Body::Mmad(mmad) => {
                let blocks = mmad.to.blocks();
                let tiles = mmad.to.rows.div_ceil(16) * mmad.to.cols.div_ceil(16);
                let before = self.last.replace((blocks, tiles, next));
                if let Some((_, tiles, with)) =
                    before.filter(|(sums, tiles, _)| *tiles < CHAINED && sums.overlaps(&blocks))
                {
                    let detail =
                        format!("the sums have {tiles} tiles; from {CHAINED} on the cube keeps the order itself");
                    add(Code::ChainedProducts, Some(with), blocks, detail);
                }
                let coupled = match mmad.unit_flag {
                    UnitFlag::Off => self.coupled.remove(&blocks.at),
                    flag => self.coupled.insert(blocks.at, (flag, next)),
                };
                if let Some((_, with)) = coupled.filter(|(flag, _)| *flag == UnitFlag::Last) {
                    let detail = "the product before was the last of its sums, and no transfer came between".into();
                    add(Code::UnitFlagMismatch, Some(with), blocks, detail);
                }
            }
            Body::Fix(fix) => {
                let blocks = fix.from.blocks();
                // Who overwrites sums that were fetched has waited for that, or is in a race with it.
                self.last = self.last.filter(|(sums, ..)| !sums.overlaps(&blocks));
                let product = self.coupled.remove(&blocks.at);
                let (have, with) = product.map_or((UnitFlag::Off, None), |(flag, with)| (flag, Some(with)));
                let fetches = fix.unit_flag != UnitFlag::Off;
                if fetches != (have != UnitFlag::Off) || (fetches && have == UnitFlag::Keep) {
                    let detail = format!("the product has {have:?}, the transfer {:?}", fix.unit_flag);
                    add(Code::UnitFlagMismatch, with, blocks, detail);
                }
            }
            _ => {}
        }
        found
    }

    /// Coupled products that nobody fetched.
    pub(super) fn hazards(&mut self, core: usize, program: &Program) -> Hazards {
        let mut all = Hazards::default();
        for (flag, next) in self.coupled.values() {
            let instr = &program.unit(next.unit)[next.index];
            let at = At::new(instr.name(), core, next.unit, next.index, instr.line);
            let detail = format!("the product has {flag:?}, and no transfer follows");
            all.add(Hazard { code: Code::UnitFlagMismatch, at, with: None, bytes: None, detail });
        }
        all
    }
}
