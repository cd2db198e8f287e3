//! R4 and R5: what must hold between two runs of one device, whatever the oracle says.
//!
//! A relation takes a case of the catalogue and runs it again in another form: with other rows around it, its pages
//! elsewhere, its inputs scaled. Where the device's declared [`Determinism`] promises equal bits, the results are equal bit
//! for bit. Where it promises less, the other form is judged by the oracle like any case, so that a lower class is never a
//! failure and never a free pass.

mod hold;
mod rows;
mod variant;

pub(crate) use hold::{Stop, hold};

use crate::case::{Case, Check, Profile};
use crate::rules::Rule;
use anychip_core::Determinism;

/// What the two runs have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Run again, with other work in flight, on operands written anew.
    Repeat,
    /// A row alone, and in batches of other sizes at other places.
    Batch,
    /// The rows in another order.
    Permute,
    /// Other contents of all rows but one, at the same shape.
    Neighbour,
    /// Pages of the pool at other places.
    Relocate,
    /// Places that name nothing behind the lists.
    Masked,
    /// Inputs times a power of two, which the result is linear in or does not see.
    Scaled,
    /// The rows in two calls, the second from the state that the first leaves.
    Split,
}

impl Relation {
    const ALL: [Relation; 8] = [
        Relation::Repeat,
        Relation::Batch,
        Relation::Permute,
        Relation::Neighbour,
        Relation::Relocate,
        Relation::Masked,
        Relation::Scaled,
        Relation::Split,
    ];

    /// The part of a case's name.
    fn name(self) -> &'static str {
        match self {
            Relation::Repeat => "r5-repeat",
            Relation::Batch => "r5-batch",
            Relation::Permute => "r4-permute",
            Relation::Neighbour => "r4-neighbour",
            Relation::Relocate => "r4-relocate",
            Relation::Masked => "r4-masked",
            Relation::Scaled => "r4-scaled",
            Relation::Split => "r4-split",
        }
    }

    pub(crate) fn rule(self) -> Rule {
        match self {
            Relation::Repeat | Relation::Batch => Rule::R5,
            _ => Rule::R4,
        }
    }

    /// The least class that promises equal bits. The rest keeps its shape and its work, and so needs no more than that
    /// equal calls give equal bits. A longer list is what a row gets in a batch with a longer one.
    fn class(self) -> Determinism {
        match self {
            Relation::Batch | Relation::Permute | Relation::Masked | Relation::Split => Determinism::BatchInvariant,
            _ => Determinism::RunToRun,
        }
    }

    /// Whether there is anything to say about a case. Of the largest shapes determinism alone is tested: how work is
    /// divided depends on size, what a row sees does not.
    fn is_of(self, case: &Case) -> bool {
        if case.profile != Profile::Quick && self.rule() != Rule::R5 {
            return false;
        }
        // Twice would be more memory than many a device has.
        if case.host_bytes() > 0 {
            return false;
        }
        // Nothing to repeat, to move or to scale: no rows, or every result is a constant.
        let rest = case.name.split_once('/').map_or("", |(_, rest)| rest);
        if ["no_rows", "no_places", "no_scores", "no_keys"].iter().any(|none| rest.starts_with(none))
            || rest.contains("/t0-")
        {
            return false;
        }
        match self {
            Relation::Repeat => true,
            Relation::Batch => rows::of_case(case),
            // Of rows for one place the last one counts.
            Relation::Permute => rows::of_case(case) || case.op_name == "kv_store" && !rest.starts_with("twice"),
            // Of rows that are numbers alone, the contents are what they ask for.
            Relation::Neighbour => rows::of_case(case) && case.op_name != "embed",
            Relation::Relocate => matches!(case.op_name, "sparse_attention" | "index_scores" | "kv_store"),
            Relation::Masked => matches!(case.op_name, "sparse_attention" | "expert_ffn"),
            // What has no weights of its own is scaled by none.
            Relation::Scaled if case.op_name == "swiglu" => rest.starts_with("weighted"),
            Relation::Scaled if case.op_name == "expert_ffn" => {
                rest.starts_with("exact/") && !["shared", "clamped", "odd", "poisoned"].iter().any(|w| rest.contains(w))
            }
            // All scales there are: the largest have no larger ones.
            Relation::Scaled if rest.contains("every_") => false,
            Relation::Scaled => variant::degree(case.op_name).is_some(),
            // Without rows there is nothing to divide.
            Relation::Split => case.op_name == "kv_compress",
        }
    }
}

/// The relations that hold of these cases, each a case of its own: `linear/r5-batch/` and the rest of the case's name.
pub(crate) fn cases_of(cases: &[Case]) -> Vec<Case> {
    let pairs = Relation::ALL.iter().flat_map(|relation| cases.iter().map(move |case| (*relation, case)));
    let related = pairs.filter(|(relation, case)| case.check() == Check::Bound && relation.is_of(case));
    related.map(|(relation, case)| case.related(relation.name(), relation)).collect()
}
