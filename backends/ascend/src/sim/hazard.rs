//! What is wrong with a kernel, in the words of a sanitizer: a code, both instructions, the bytes, the kernel's line, the mend.

use crate::isa::{Blocks, Place, Unit};
use std::fmt;
use std::panic::Location;

macro_rules! codes {
    ($($name:ident $code:literal $doc:literal $mend:literal;)*) => {
        /// Kinds of hazards. `E` are errors, `W` warnings: the result is right, the time is not what it could be, or digits
        /// were lost.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $doc] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// `E5`.
            pub fn id(self) -> &'static str {
                match self { $(Code::$name => $code),* }
            }

            /// What it is, in words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $doc),* }
            }

            /// How it is mended.
            pub fn mend(self) -> &'static str {
                match self { $(Code::$name => $mend),* }
            }
        }
    };
}

codes! {
    OutOfBounds "E1" "out of bounds" "make the tile smaller, or take fewer buffers";
    Misaligned "E2" "misaligned" "begin the tile, and each of its rows, at a multiple of the memory's unit";
    Overlap "E3" "allocations overlap" "take the place from the allocator, or free the first before";
    Uninitialised "E4" "read before it was written" "write all that is read, or read only what is valid";
    Race "E5" "no order between two accesses" "set a flag behind the first and wait for it before the second";
    FlagMisuse "E6" "flags do not pair" "give each set one wait of the same engines and number, and each wait one set";
    Deadlock "E7" "nothing can go on" "set what is waited for before waiting, or set it in front of the loop";
    NoPath "E8" "the chip has no such path or instruction" "take the way that this generation has";
    WrongLayout "E9" "layout or type that the instruction does not take" "convert the tile, or load it in the layout that is asked for";
    ProductLimit "E10" "limits of a product" "cut the product into smaller ones";
    ChainedProducts "E11" "small products in a row on the same sums" "put a barrier of the cube between them";
    UnitFlagMismatch "E12" "unit flags of product and transfer differ" "give both the flag, or neither";
    SharedOutput "E13" "two cores touch the same bytes of an output" "divide the output among cores, or add atomically";
    StaleScalar "E14" "the scalar unit goes by what is not there" "clean its cache (DCCI) before the load, or go by what will be there";
    Unwritten "E15" "output bytes were never written" "write the whole output, also where there is nothing to compute";
    BankConflict "W1" "accesses meet in the same banks of UB" "put operands in different banks, or pad rows by 32 bytes";
    ShortBurst "W2" "bursts below the efficient size" "load longer rows";
    SameAddress "W3" "many cores read the same bytes at once" "let each core begin at another place";
    IssueBound "W4" "transfers take longer to issue than to move" "move more with each instruction";
    Tail "W5" "the last round leaves cores idle" "choose tiles whose number the cores divide";
    Lossy "W6" "values were flushed or saturated" "scale the values, or take a type of more range";
    Tolerance "W7" "a fixed tolerance that says nothing" "derive the tolerance from the declared arithmetic";
}

impl Code {
    /// Whether a kernel that has it is wrong.
    pub fn is_error(self) -> bool {
        self.id().starts_with('E')
    }
}

/// An instruction in a report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Its name.
    pub name: &'static str,
    /// Its core.
    pub core: usize,
    /// Its unit.
    pub unit: Unit,
    /// Its place among the unit's instructions.
    pub index: usize,
    /// The kernel's file.
    pub file: &'static str,
    /// And line.
    pub line: u32,
}

impl At {
    pub(crate) fn new(name: &'static str, core: usize, unit: Unit, index: usize, line: &Location<'static>) -> At {
        At { name, core, unit, index, file: line.file(), line: line.line() }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { name, core, unit, index, file, line } = self;
        write!(f, "{name} #{index} of core {core} {unit} ({file}:{line})")
    }
}

/// Bytes of a memory in a report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes {
    /// The memory: `ub`, or an operand's name.
    pub space: String,
    /// First byte.
    pub from: u64,
    /// Byte behind the last.
    pub to: u64,
}

impl Bytes {
    pub(crate) fn of(place: Place, blocks: &Blocks, name: &dyn Fn(u16) -> String) -> Bytes {
        let space = match place {
            Place::Gm(region) => name(region),
            Place::Local(space, _) => space.to_string(),
        };
        Bytes { space, from: blocks.at, to: blocks.end() }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hazard {
    /// Its kind.
    pub code: Code,
    /// The instruction that shows it.
    pub at: At,
    /// The other one, where there are two.
    pub with: Option<At>,
    /// Bytes, where it is about bytes.
    pub bytes: Option<Bytes>,
    /// The rule, the limit and what was given.
    pub detail: String,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code.id(), self.code.title(), self.at)?;
        if let Some(with) = &self.with {
            write!(f, " and {with}")?;
        }
        if let Some(Bytes { space, from, to }) = &self.bytes {
            write!(f, ", {space} bytes {from}..{to}")?;
        }
        write!(f, ": {}; {}", self.detail, self.code.mend())
    }
}

/// What was found in a launch: the first of each kind at each place, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hazards {
    found: Vec<(Hazard, u64)>,
}

impl Hazards {
    /// Adds one, if none of its code and lines is there already.
    pub(crate) fn add(&mut self, hazard: Hazard) {
        self.add_all(hazard, 1);
    }

    fn add_all(&mut self, hazard: Hazard, times: u64) {
        let lines = |h: &Hazard| (h.code, h.at.line, h.at.file, h.with.as_ref().map(|with| (with.line, with.file)));
        match self.found.iter_mut().find(|(known, _)| lines(known) == lines(&hazard)) {
            Some((_, count)) => *count += times,
            None => self.found.push((hazard, times)),
        }
    }

    pub(crate) fn merge(&mut self, other: Hazards) {
        other.found.into_iter().for_each(|(hazard, count)| self.add_all(hazard, count));
    }

    /// All, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (&Hazard, u64)> {
        self.found.iter().map(|(hazard, count)| (hazard, *count))
    }

    /// Those that make a kernel wrong.
    pub fn errors(&self) -> impl Iterator<Item = &Hazard> {
        self.found.iter().map(|(hazard, _)| hazard).filter(|hazard| hazard.code.is_error())
    }

    /// The kinds that there are.
    pub fn codes(&self) -> Vec<Code> {
        let mut all: Vec<Code> = self.found.iter().map(|(hazard, _)| hazard.code).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
