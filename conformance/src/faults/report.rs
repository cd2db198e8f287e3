//! What came of the planted faults: a score for people, a document for programs.

use crate::Rule;
use serde::Serialize;
use std::fmt::Write;

/// How a fault was noticed first.
#[derive(Clone, Debug, Serialize)]
pub struct Catch {
    /// Case that failed.
    pub case: String,
    /// Rule that it broke.
    pub rule: Rule,
    /// What the case said.
    pub message: String,
}

/// One planted fault.
#[derive(Clone, Debug, Serialize)]
pub struct FaultResult {
    /// Name.
    pub name: &'static str,
    /// What it is about.
    pub family: &'static str,
    /// Operations that it concerns.
    pub ops: &'static [&'static str],
    /// The real bug that it stands for.
    pub bug: &'static str,
    /// What can notice it where a single run of a case cannot.
    pub needs: Option<&'static str>,
    /// Cases of these operations that were run until one failed.
    pub cases: usize,
    /// The first case that failed; nothing if all passed, and the fault was missed.
    pub caught: Option<Catch>,
    /// Whether each peer's rule notices it, in the order of [`FaultReport::peers`]; nothing without float outputs.
    pub peers: Option<Vec<bool>>,
}

/// A family's score.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyScore {
    /// Family.
    pub family: &'static str,
    /// Faults caught.
    pub caught: usize,
    /// Faults planted.
    pub planted: usize,
}

/// A peer's score, over the faults of operations with float outputs.
#[derive(Clone, Debug, Serialize)]
pub struct PeerScore {
    /// Whose rule it is.
    pub name: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// Faults that it notices in some case that the correct device passes by it.
    pub caught: usize,
    /// Faults that show in float outputs.
    pub of: usize,
    /// Cases that the correct device fails by it.
    pub false_alarms: usize,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct FaultReport {
    /// `anychip.faults/1`.
    pub schema: &'static str,
    /// Version of the suite.
    pub suite: &'static str,
    /// Name of the correct device.
    pub device: String,
    /// Seed of the faults' cases.
    pub seed: u64,
    /// Seeds that the correct device was run under.
    pub correct_seeds: Vec<u64>,
    /// Other orders of summation that were run under these seeds as well, as correct devices of their own.
    pub correct_orders: Vec<&'static str>,
    /// Faults planted.
    pub planted: usize,
    /// Faults caught.
    pub caught: usize,
    /// Those that were not.
    pub missed: Vec<&'static str>,
    /// Cases that the correct device failed, with what they said.
    pub false_alarms: Vec<String>,
    /// Score of each family.
    pub families: Vec<FamilyScore>,
    /// Scores of other suites' rules.
    pub peers: Vec<PeerScore>,
    /// Each fault.
    pub results: Vec<FaultResult>,
    /// Time it took.
    pub seconds: f64,
    /// Whether every fault was run and caught, without a false alarm.
    pub passed: bool,
}

impl FaultReport {
    /// The score as text.
    pub fn table(&self) -> String {
        let mut text = format!("planted faults over {}, seed {}\n\n", self.device, self.seed);
        // Writing to a string does not fail.
        for f in &self.families {
            let _ = writeln!(text, "  {:<14} {:>3} of {:<3}", f.family, f.caught, f.planted);
        }
        text.push_str("\ncaught by\n");
        let _ = writeln!(
            text,
            "  {:<14} {:>3} of {:<3}  {} false alarms over {} seeds of it and of {} other orders of summation",
            "this suite",
            self.caught,
            self.planted,
            self.false_alarms.len(),
            self.correct_seeds.len(),
            self.correct_orders.len()
        );
        for p in &self.peers {
            let alarms = if p.false_alarms > 0 {
                format!("; {} cases of the correct device fail", p.false_alarms)
            } else {
                String::new()
            };
            let _ = writeln!(text, "  {:<14} {:>3} of {:<3}  {}{alarms}", p.name, p.caught, p.of, p.rule);
        }
        for r in self.results.iter().filter(|r| r.caught.is_none()) {
            let needs = r.needs.map_or(String::new(), |needs| format!(" It takes {needs}."));
            let _ = writeln!(text, "missed: {} ({}): {}{needs}", r.name, r.ops.join(", "), r.bug);
        }
        for alarm in &self.false_alarms {
            let _ = writeln!(text, "false alarm: {alarm}");
        }
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let _ = writeln!(text, "{verdict} in {:.1} s", self.seconds);
        text
    }
}
