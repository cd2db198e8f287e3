//! Why a run could not begin.

use crate::case::Profile;

/// Why no case could be run. What a case finds is in the [`Report`](crate::Report).
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// There is no such operation.
    #[error("there is no operation `{name}`; near it: {near}")]
    UnknownOp {
        /// Name that was asked for.
        name: String,
        /// Names that look like it.
        near: String,
    },
    /// There is no such case.
    #[error("there is no case `{name}`; near it: {near}")]
    UnknownCase {
        /// Name that was asked for.
        name: String,
        /// Names that look like it.
        near: String,
    },
    /// Operations and a case were asked for that have nothing in common.
    #[error("case `{case}` is of `{op}`, which is not among the selected operations; leave out one of the two")]
    NothingSelected {
        /// The case.
        case: String,
        /// Its operation.
        op: &'static str,
    },
    /// The catalogue has no case for an operation.
    #[error("the {profile} profile has no case of `{op}`")]
    NoCases {
        /// Operation.
        op: String,
        /// Profile.
        profile: Profile,
    },
    /// The list of expected failures is of no use.
    #[error("{file}: no list of expected failures: {reason}")]
    ExpectedFailures {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A saved failure cannot be run again, or not be saved.
    #[error("{file}: {reason}")]
    Saved {
        /// The file.
        file: String,
        /// What is wrong with it, and how to mend it.
        reason: String,
    },
    /// What was to be checked is no report, or none that can be checked.
    #[error("{file}: no conformance report that can be checked: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What is wrong with it, and how to mend it.
        reason: String,
    },
    /// A report of another version of the suite.
    #[error(
        "{file}: written by suite {theirs}, and this is suite {ours}, where the same name may stand for another case; \
         check it with anychip {theirs}, or write it again with {ours}"
    )]
    OtherSuite {
        /// The file.
        file: String,
        /// Version that wrote it.
        theirs: String,
        /// Version that was asked to check it.
        ours: &'static str,
    },
    /// A report of the same version at another commit, which had other cases.
    #[error(
        "{file}: its digest is that of its own cases, which are not those that suite {version} has here: it was written \
         at {theirs}, and this is {ours}; check it with that commit, or write it again with this one"
    )]
    OtherCases {
        /// The file.
        file: String,
        /// Version of both.
        version: &'static str,
        /// Commit that wrote it.
        theirs: String,
        /// Commit that was asked to check it.
        ours: String,
    },
    /// The report could not be written as XML.
    #[error("cannot write JUnit XML: {0}")]
    Junit(String),
}
