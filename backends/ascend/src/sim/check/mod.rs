//! What is wrong with a program, found while its instructions go by.
//!
//! An order between two instructions that flags, barriers and engines give holds in every schedule. So the order is kept as
//! vector clocks, one count for each engine of the core, and what has none is a race whatever the schedule did.

mod clock;
mod cube;
mod flags;
mod lanes;
mod products;
mod race;
mod rules;
mod scalar;
mod shared;
mod vectors;
mod warn;

pub(crate) use flags::at_exit;
pub(crate) use rules::broken;
pub(crate) use shared::{Touches, shared};
pub(crate) use warn::warnings;

use super::global::Gm;
use super::hazard::{At, Bytes, Code, Hazard, Hazards};
use super::order::{Next, Order};
use crate::isa::{Blocks, Body, Instr, Place, local};
use crate::kernel::Program;
use crate::machine::Profile;
use clock::Clocks;
use flags::Flags;
use products::Products;
use race::Races;

use scalar::ScalarCache;

/// The checks of one core.
pub(crate) struct Checker<'a, 'g> {
    core: usize,
    profile: &'a Profile,
    gm: &'a Gm<'g>,
    clocks: Clocks,
    races: Races,
    flags: Flags,
    products: Products,
    cache: ScalarCache,
    pub(crate) hazards: Hazards,
}

impl<'a, 'g> Checker<'a, 'g> {
    pub(crate) fn new(profile: &'a Profile, gm: &'a Gm<'g>, core: usize) -> Checker<'a, 'g> {
        Checker {
            core,
            profile,
            gm,
            clocks: Clocks::default(),
            races: Races::default(),
            flags: Flags::default(),
            products: Products::default(),
            cache: ScalarCache::default(),
            hazards: Hazards::default(),
        }
    }

    fn at(&self, next: Next, instr: &Instr) -> At {
        At::new(instr.name(), self.core, next.unit, next.index, instr.line)
    }

    /// An instruction that runs now. Gives whether it can: what breaks a rule of its own does not.
    pub(crate) fn observe(&mut self, program: &Program, next: Next) -> bool {
        let instr = &program.unit(next.unit)[next.index];
        let at = self.at(next, instr);
        let wrong = broken(self.profile, self.gm, next.unit, instr);
        let sound = wrong.is_empty();
        for (code, bytes, detail) in wrong {
            self.hazards.add(Hazard { code, at: at.clone(), with: None, bytes, detail });
        }
        self.clocks.begin(next, &instr.body);
        let mut found = self.flags.observe(next, instr, &self.clocks);
        found.extend(self.products.observe(next, instr));
        if sound {
            found.extend(self.cache.observe(next, instr));
            // The scalar unit takes the list up before it issues the rows: it has waited for who loaded it.
            if let Body::GatherRows { index, .. } = &instr.body {
                let listed = self.races.last_write(next, local(index, next.unit), &index.blocks());
                self.clocks.is_through(next, listed);
            }
            let (clocks, races, gm) = (&self.clocks, &mut self.races, self.gm);
            instr.accesses(next.unit, &mut |access| {
                if let Place::Gm(region) = access.place
                    && !gm.is_written(region)
                {
                    return;
                }
                found.extend(races.observe(next, &access, clocks));
            });
        }
        for Found { code, with, bytes, detail } in found {
            let name = |region: u16| self.gm.name(region).to_string();
            let with = with.map(|other| self.at(other, &program.unit(other.unit)[other.index]));
            let bytes = bytes.map(|(place, blocks)| Bytes::of(place, &blocks, &name));
            self.hazards.add(Hazard { code, at: at.clone(), with, bytes, detail });
        }
        self.clocks.end(next, &instr.body);
        sound
    }

    /// The core is through, or goes on no more. Gives what it did to operands that are written.
    pub(crate) fn finish(mut self, program: &Program, order: &Order<'_>) -> (Hazards, Touches) {
        for (next, code, detail) in flags::at_exit(program, order) {
            let at = self.at(next, &program.unit(next.unit)[next.index]);
            self.hazards.add(Hazard { code, at, with: None, bytes: None, detail });
        }
        self.hazards.merge(std::mem::take(&mut self.products.hazards(self.core, program)));
        let mut touches = self.races.into_touches();
        touches.arrivals = self.clocks.into_arrivals();
        (self.hazards, touches)
    }
}

/// Something that a check found about the instruction that runs.
pub(super) struct Found {
    pub(super) code: Code,
    pub(super) with: Option<Next>,
    pub(super) bytes: Option<(Place, Blocks)>,
    pub(super) detail: String,
}

impl Found {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Found {
        Found { code, with: None, bytes: None, detail: detail.into() }
    }
}
