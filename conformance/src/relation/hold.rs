//! Running both forms of a case and comparing them.

use super::Relation;
use super::rows::{self, Around, Arranged, arranged, row_of, surrounded};
use super::variant::{Places, Variant, keeps_subnormals, reads_subnormals, scaled_value};
use crate::builder::Built;
use crate::case::{Case, Profile};
use crate::random::Random;
use crate::rules::bound::Nearest;
use crate::rules::structure::floats;
use crate::rules::{Broken, Rule, coordinate};
use crate::run::one::{Seen, check, run_candidate, untouched};
use anychip_core::{Access, DType, Determinism, Device, Error, Op, Support, Tensor};

/// Runs that are to be equal, beside other work; of large cases, where one run is as many blocks of work.
const REPEATS: [usize; 2] = [20, 5];
/// Batches that a row is put into.
const BATCHES: [usize; 4] = [2, 3, 8, 17];

/// Why a relation was not found to hold.
pub(crate) enum Stop {
    Broken(Box<Broken>),
    /// The device does not run the other form.
    Unsupported(String),
}

impl From<Box<Broken>> for Stop {
    fn from(broken: Box<Broken>) -> Stop {
        Stop::Broken(broken)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Broken(Broken::plain(Rule::Ran, format!("the device failed: {error}")))
    }
}

/// Whether a relation holds of a case, whose operands were just made. Gives what came nearest to its bound, where bits are
/// not owed and the oracle judged.
pub(crate) fn hold(
    device: &dyn Device,
    oracle: &dyn Device,
    relation: Relation,
    op: &Op,
    built: &mut Built,
    case: &Case,
) -> Result<Option<Nearest>, Stop> {
    let mut random = case.random();
    let repeats = REPEATS[usize::from(case.profile != Profile::Quick)];
    let pair = Pair { device, oracle, relation, promised: device.numerics(op).determinism };
    match relation {
        Relation::Repeat => pair.repeat(op, built, repeats),
        Relation::Batch => pair.batch(op, built),
        Relation::Permute if op.name() == "kv_store" => {
            pair.equal(op, built, Variant::reversed, "when the rows come in another order")
        }
        Relation::Permute => pair.permute(op, built, &mut random),
        Relation::Neighbour => pair.neighbour(op, built),
        Relation::Relocate => pair.relocate(op, built, &mut random),
        Relation::Masked => pair.equal(op, built, Variant::masked, "with places behind its lists that name nothing"),
        Relation::Scaled => pair.scaled(op, built),
        Relation::Split => pair.split(op, built),
    }
}

/// What two runs of a device are compared by.
struct Pair<'a> {
    device: &'a dyn Device,
    oracle: &'a dyn Device,
    relation: Relation,
    promised: Determinism,
}

/// Bytes of each buffer after a run.
type After = Vec<Vec<u8>>;

impl Pair<'_> {
    fn owes_bits(&self) -> bool {
        self.promised >= self.relation.class()
    }

    fn run(&self, op: &Op, built: &mut Built) -> Result<After, Stop> {
        if let Support::Unsupported(reason) = self.device.supports(op) {
            return Err(Stop::Unsupported(format!("{:?} needs it in another form: {reason}", self.relation)));
        }
        let after = run_candidate(op, built)?;
        untouched(op, built, &after)?;
        Ok(after)
    }

    /// Judges one form by the oracle, where bits are not owed.
    fn judge(&self, op: &Op, built: &Built, after: &After) -> Result<Option<Nearest>, Stop> {
        Ok(check(self.oracle, op, built, after, &self.device.numerics(op), &mut Seen::default())?)
    }

    fn differs(&self, at: &Place<'_>, what: &str) -> Stop {
        let rule = self.relation.rule();
        let claim = match rule {
            Rule::R5 => format!(", though the device declares {:?}", self.promised),
            _ => String::new(),
        };
        // Of two codes in a byte the first is named.
        let coordinate = coordinate(at.tensor.sizes(), at.byte * 8 / at.tensor.dtype().bits().max(1) as usize);
        Stop::Broken(Broken::at(rule, at.operand, coordinate, format!("{what}{claim}"), &at.got, &at.want))
    }

    fn repeat(&self, op: &Op, built: &mut Built, repeats: usize) -> Result<Option<Nearest>, Stop> {
        let first = self.run(op, built)?;
        let mut other = Variant::copy(self.device, op, built)?;
        for count in 1..repeats {
            other.built.stream.enqueue(&other.op)?;
            for operand in &built.laid.operands {
                built.stream.write(operand.whole(), operand.before())?;
            }
            let again = self.run(op, built)?;
            if !self.owes_bits() {
                return self.judge(op, built, &again);
            }
            for (name, tensor, index) in written(op, built) {
                let [got, want] = [&again, &first].map(|after| built.operands[index].view(&after[index], &tensor));
                if let Some(place) = place(name, &tensor, 0, got, want) {
                    return Err(self.differs(&place, &format!("run {} differs from the first", count + 1)));
                }
            }
        }
        Ok(None)
    }

    /// Rows of the case that are looked at: the first, one in the middle and the last.
    fn subjects(&self, op: &Op) -> Result<Vec<usize>, Stop> {
        let all = rows::count(op);
        if all == 0 {
            return Err(Stop::Broken(Broken::plain(Rule::Ran, "the case has no rows to compare")));
        }
        let mut some = vec![0, all / 2, all - 1];
        some.dedup();
        Ok(some)
    }

    fn batch(&self, op: &Op, built: &Built) -> Result<Option<Nearest>, Stop> {
        let all = rows::count(op);
        let mut alone = Vec::new();
        for row in self.subjects(op)? {
            let mut one = arranged(self.device, op, built, vec![row])?;
            let after = self.run(&one.variant.op, &mut one.variant.built)?;
            alone.push((row, one, after));
        }
        let mut nearest = None;
        for (turn, &size) in BATCHES.iter().enumerate() {
            // Every row comes to many places, and next to others in each batch.
            let rows = (0..size).map(|i| (i * (turn + 1) + turn) % all).collect::<Vec<_>>();
            let rows =
                if rows.iter().any(|&row| alone.iter().any(|(one, ..)| *one == row)) { rows } else { vec![0; size] };
            let mut batch = arranged(self.device, op, built, rows)?;
            let after = self.run(&batch.variant.op, &mut batch.variant.built)?;
            if !self.owes_bits() {
                nearest = self.judge(&batch.variant.op, &batch.variant.built, &after)?;
                continue;
            }
            for (row, one, one_after) in &alone {
                for (at, _) in batch.rows.iter().enumerate().filter(|(_, r)| *r == row) {
                    let what = format!("row {row} of the case differs at place {at} of {size} rows from the row alone");
                    self.same_row((&batch, &after, at), (one, one_after, 0), &what)?;
                }
            }
        }
        Ok(nearest)
    }

    fn permute(&self, op: &Op, built: &mut Built, random: &mut Random) -> Result<Option<Nearest>, Stop> {
        let mut straight = arranged(self.device, op, built, (0..rows::count(op)).collect())?;
        let after = self.run(&straight.variant.op, &mut straight.variant.built)?;
        let mut other = arranged(self.device, op, built, random.permutation(rows::count(op)))?;
        let other_after = self.run(&other.variant.op, &mut other.variant.built)?;
        if !self.owes_bits() {
            return self.judge(&other.variant.op, &other.variant.built, &other_after);
        }
        for (at, row) in other.rows.iter().enumerate() {
            let place = straight.rows.iter().position(|r| r == row).unwrap_or_default();
            let what = format!("row {row} differs when the rows come in another order");
            self.same_row((&other, &other_after, at), (&straight, &after, place), &what)?;
        }
        Ok(None)
    }

    /// A row of one run has the bits of a row of another.
    fn same_row(
        &self,
        (got, got_after, got_row): (&Arranged, &After, usize),
        (want, want_after, want_row): (&Arranged, &After, usize),
        what: &str,
    ) -> Result<(), Stop> {
        let wanted = written(&want.variant.op, &want.variant.built);
        for (name, tensor, index) in written(&got.variant.op, &got.variant.built) {
            let Some((_, want_tensor, want_index)) = wanted.iter().find(|(other, ..)| *other == name) else { continue };
            let all = got.variant.built.operands[index].view(&got_after[index], &tensor);
            let want_all = want.variant.built.operands[*want_index].view(&want_after[*want_index], want_tensor);
            let row = row_of(all, got.rows.len(), got_row);
            let want = row_of(want_all, want.rows.len(), want_row);
            if let Some(place) = place(name, &tensor, got_row * row.len(), row, want) {
                return Err(self.differs(&place, what));
            }
        }
        Ok(())
    }

    fn neighbour(&self, op: &Op, built: &mut Built) -> Result<Option<Nearest>, Stop> {
        let all = rows::count(op);
        let first = self.run(op, built)?;
        let mut nearest = None;
        for kept in self.subjects(op)? {
            for around in [Around::Poison, Around::Copies] {
                let mut other = surrounded(self.device, op, built, kept, around)?;
                let after = self.run(&other.op, &mut other.built)?;
                if !self.owes_bits() {
                    nearest = self.judge(&other.op, &other.built, &after)?;
                    continue;
                }
                let of_other = written(&other.op, &other.built);
                for ((name, tensor, index), (_, other_tensor, other_index)) in
                    written(op, built).into_iter().zip(of_other)
                {
                    let want = row_of(built.operands[index].view(&first[index], &tensor), all, kept);
                    let got = other.built.operands[other_index].view(&after[other_index], &other_tensor);
                    let got = row_of(got, all, kept);
                    if let Some(place) = place(name, &tensor, kept * got.len(), got, want) {
                        let what = match around {
                            Around::Poison => format!("row {kept} changes when all other rows become NaN"),
                            Around::Copies => format!("row {kept} changes when all other rows become its copies"),
                        };
                        return Err(self.differs(&place, &what));
                    }
                }
            }
        }
        Ok(nearest)
    }

    fn relocate(&self, op: &Op, built: &mut Built, random: &mut Random) -> Result<Option<Nearest>, Stop> {
        let mut places = Vec::new();
        for (name, _, tensor) in op.operands().into_iter().filter(|(name, ..)| name.ends_with("pool")) {
            let mut order = random.permutation(tensor.size(0));
            // At least one page moves.
            if order.iter().enumerate().all(|(i, &p)| i == p) {
                order.rotate_left(1);
            }
            places.push((name, order));
        }
        let places = Places(places);
        let first = self.run(op, built)?;
        let mut other = Variant::relocated(self.device, op, built, &places)?;
        let after = self.run(&other.op, &mut other.built)?;
        if !self.owes_bits() {
            return self.judge(&other.op, &other.built, &after);
        }
        let of_other = written(&other.op, &other.built);
        for ((name, tensor, index), (_, other_tensor, other_index)) in written(op, built).into_iter().zip(of_other) {
            let want = built.operands[index].view(&first[index], &tensor);
            let want = if name.ends_with("pool") { places.pages(name, want, tensor.size(0)) } else { want.to_vec() };
            let got = other.built.operands[other_index].view(&after[other_index], &other_tensor);
            if let Some(place) = place(name, &tensor, 0, got, &want) {
                return Err(self.differs(&place, "the result changes when pages of the pool move"));
            }
        }
        Ok(None)
    }

    /// The results of another form are those of the case.
    fn equal(
        &self,
        op: &Op,
        built: &mut Built,
        form: fn(&dyn Device, &Op, &Built) -> anychip_core::Result<Variant>,
        what: &str,
    ) -> Result<Option<Nearest>, Stop> {
        let first = self.run(op, built)?;
        let mut other = form(self.device, op, built)?;
        let after = self.run(&other.op, &mut other.built)?;
        // Where weights are rounded, which places share a maximum is part of the definition, and places behind the first
        // list move those of the second.
        if !self.owes_bits() || rounds_by_place(op) {
            return self.judge(&other.op, &other.built, &after);
        }
        let of_other = written(&other.op, &other.built);
        for ((name, tensor, index), (_, other_tensor, other_index)) in written(op, built).into_iter().zip(of_other) {
            let want = built.operands[index].view(&first[index], &tensor);
            let got = other.built.operands[other_index].view(&after[other_index], &other_tensor);
            if let Some(place) = place(name, &tensor, 0, got, want) {
                return Err(self.differs(&place, &format!("the result changes {what}")));
            }
        }
        Ok(None)
    }

    /// Each way to cut the rows in two gives what one call gives.
    fn split(&self, op: &Op, built: &mut Built) -> Result<Option<Nearest>, Stop> {
        let rows = op.operands().iter().find(|(name, ..)| *name == "kv").map_or(0, |(_, _, kv)| kv.size(0));
        let whole = self.run(op, built)?;
        let mut cuts = vec![1, rows / 2, rows.saturating_sub(1)];
        cuts.retain(|cut| (1..rows).contains(cut));
        cuts.dedup();
        let mut nearest = None;
        for cut in cuts {
            let mut first = Variant::part(self.device, op, built, 0..cut, None)?;
            let first_after = self.run(&first.op, &mut first.built)?;
            let of_first = written(&first.op, &first.built);
            let view = |name: &str| {
                let found = of_first.iter().find(|(other, ..)| *other == name);
                found.map(|(_, tensor, index)| first.built.operands[*index].view(&first_after[*index], tensor))
            };
            let (state, entries) = (view("state"), view("out").unwrap_or_default());
            let mut second = Variant::part(self.device, op, built, cut..rows, state)?;
            let after = self.run(&second.op, &mut second.built)?;
            if !self.owes_bits() {
                nearest = self.judge(&second.op, &second.built, &after)?;
                continue;
            }
            let closing = closing(op, built);
            let of_second = written(&second.op, &second.built);
            for ((name, tensor, index), (_, other, other_index)) in written(op, built).into_iter().zip(of_second) {
                let want = built.operands[index].view(&whole[index], &tensor);
                let mut got = second.built.operands[other_index].view(&after[other_index], &other).to_vec();
                if name == "out" {
                    let row = got.len() / closing.len().max(1);
                    for (e, _) in closing.iter().enumerate().filter(|(_, row)| (0..cut as i32).contains(row)) {
                        got[e * row..][..row].copy_from_slice(&entries[e * row..][..row]);
                    }
                }
                if let Some(place) = place(name, &tensor, 0, &got, want) {
                    let what = format!("{cut} rows and then {} give another result than all in one call", rows - cut);
                    return Err(self.differs(&place, &what));
                }
            }
        }
        Ok(nearest)
    }

    fn scaled(&self, op: &Op, built: &mut Built) -> Result<Option<Nearest>, Stop> {
        let first = self.run(op, built)?;
        let mut other = Variant::scaled(self.device, op, built)?;
        let after = self.run(&other.op, &mut other.built)?;
        let subnormal = reads_subnormals(op, built) || reads_subnormals(&other.op, &other.built);
        if !self.owes_bits() || subnormal && !keeps_subnormals(&self.device.numerics(op)) {
            return self.judge(&other.op, &other.built, &after);
        }
        let of_other = written(&other.op, &other.built);
        for ((name, tensor, index), (_, other_tensor, other_index)) in written(op, built).into_iter().zip(of_other) {
            let dtype = tensor.dtype();
            let base = floats(dtype, built.operands[index].view(&first[index], &tensor));
            let got = floats(dtype, other.built.operands[other_index].view(&after[other_index], &other_tensor));
            for (at, (&base, &got)) in base.iter().zip(&got).enumerate() {
                let (want, [least, most]) = (scaled_value(op.name(), base), range(dtype));
                let in_range = base == 0.0 || (base.abs() >= least && want.abs() <= most);
                if in_range && got != want {
                    let what = "a power of two on the inputs is not the power on the result that it should be";
                    let at = coordinate(tensor.sizes(), at);
                    return Err(Broken::at(
                        self.relation.rule(),
                        name,
                        at,
                        what,
                        format!("{got:?}"),
                        format!("{want:?}"),
                    )
                    .into());
                }
            }
        }
        Ok(None)
    }
}

/// The smallest normal number and the largest.
fn range(dtype: DType) -> [f64; 2] {
    match dtype {
        DType::F16 => [2f64.powi(-14), 65504.0],
        _ => [f64::from(f32::MIN_POSITIVE), 3.3e38],
    }
}

fn rounds_by_place(op: &Op) -> bool {
    use anychip_core::ops::{OpKind, Rounding};
    matches!(op.kind(), OpKind::SparseAttention(attention) if attention.rounding != Rounding::None)
}

/// The row that closes each entry's window.
fn closing(op: &Op, built: &Built) -> Vec<i32> {
    let operand = op.operands().into_iter().find(|(name, ..)| *name == "closing rows");
    let index = operand.and_then(|(_, _, tensor)| built.operand(&tensor));
    let bytes = index.map_or(&[][..], |index| built.operands[index].bytes());
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// What the operation writes: name, tensor and which operand it is.
fn written(op: &Op, built: &Built) -> Vec<(&'static str, Tensor, usize)> {
    let outputs = op.operands().into_iter().filter(|(_, access, _)| *access != Access::Read);
    outputs.filter_map(|(name, _, tensor)| built.operand(&tensor).map(|index| (name, tensor, index))).collect()
}

/// The first element that differs.
struct Place<'a> {
    operand: &'static str,
    tensor: &'a Tensor,
    /// Byte within the tensor at which the element begins.
    byte: usize,
    got: String,
    want: String,
}

/// Equal bits, or NaN on both sides: which NaN is not part of the contract. `start` is where these bytes begin.
fn place<'a>(operand: &'static str, tensor: &'a Tensor, start: usize, got: &[u8], want: &[u8]) -> Option<Place<'a>> {
    let dtype = tensor.dtype();
    let at = |byte, got, want| Some(Place { operand, tensor, byte: start + byte, got, want });
    if got.len() != want.len() {
        return at(0, format!("{} bytes", got.len()), format!("{} bytes", want.len()));
    }
    if got == want {
        return None;
    }
    let size = dtype.bits().div_ceil(8) as usize;
    for (i, (a, b)) in got.chunks(size).zip(want.chunks(size)).enumerate().filter(|(_, (a, b))| a != b) {
        if !dtype.is_float() {
            return at(i * size, format!("{a:?}"), format!("{b:?}"));
        }
        let (x, y) = (floats(dtype, a), floats(dtype, b));
        let nan = |x: &[f64]| x.first().is_some_and(|x| x.is_nan());
        if !(nan(&x) && nan(&y)) {
            return at(
                i * size,
                format!("{:?}", x.first().unwrap_or(&0.0)),
                format!("{:?}", y.first().unwrap_or(&0.0)),
            );
        }
    }
    None
}
