//! Cases in processes of their own: a crash or a hang is the result of one case, and the run goes on.
//!
//! The child is the same program. It takes names of cases on standard input, a line each, and answers each with a line on
//! standard output; whatever else a kernel or a driver prints is passed over. A child runs several cases, so that opening
//! the device is paid for once, and is replaced when it ends or has to be ended.

use super::{conclude, lost_in, one};
use crate::SuiteError;
use crate::case::Case;
use crate::report::{CaseResult, Failure, Outcome, Report, Selected, declaration};
use crate::rules::{Broken, Rule};
use crate::run::{ORACLE_BYTES, Selection};
use anychip_core::Device;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What begins the part of a line that is an answer. Nothing else on standard output is looked at.
const MARK: &str = "\u{1}anychip-case ";
/// What a child says first, when its device is open.
const READY: &str = "ready";
/// Bytes of a child's standard error that are kept for the message.
const TAIL: usize = 2000;
/// Time that a child has to close its device.
const GRACE: Duration = Duration::from_secs(3);
/// Children that end before they take a case, one after the other, until the run is given up.
const FALSE_STARTS: usize = 3;

/// How cases are kept apart.
pub struct Isolation<'a> {
    /// The program that calls [`serve`] on the same device and the same cases; started once per batch.
    pub command: &'a dyn Fn() -> io::Result<Command>,
    /// Time for one case, and for opening the device.
    pub timeout: Duration,
    /// Cases that one process runs at most.
    pub batch: usize,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    result: CaseResult,
    declared: Option<String>,
    /// Whether the device was lost, so that another child has to open it again.
    lost: bool,
}

/// The child's side: runs each case that a line of `input` names, until there are no more.
///
/// # Errors
/// Those of the streams. A name that is not among `cases` is [`io::ErrorKind::InvalidInput`].
pub fn serve(
    device: &dyn Device,
    cases: &[Case],
    selection: &Selection,
    input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    let by_name: BTreeMap<&str, &Case> = cases.iter().map(|case| (case.name.as_str(), case)).collect();
    let oracle = anychip_reference::open(ORACLE_BYTES);
    writeln!(output, "{MARK}{READY}")?;
    output.flush()?;
    for line in input.lines() {
        let line = line?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, format!("there is no case `{line}`"));
        let case = by_name.get(line.as_str()).ok_or_else(unknown)?;
        let (result, numerics) = one::result(device, &*oracle, case, selection);
        let (declared, lost) = (numerics.as_ref().map(declaration), lost_in(device, &result).is_some());
        let answer = Answer { result, declared, lost };
        // On a line of its own: a kernel may have left one unfinished.
        writeln!(output, "\n{MARK}{}", serde_json::to_string(&answer)?)?;
        output.flush()?;
    }
    Ok(())
}

/// [`run`](crate::run) with the cases in child processes: one that ends its process breaks the rule
/// [`Crashed`](Rule::Crashed), one that gives no result in time [`Hung`](Rule::Hung). `device` is only asked what it is.
///
/// # Errors
/// Those of [`Selection::cases`].
pub fn run_isolated(
    device: &dyn Device,
    selection: &Selection,
    isolation: &Isolation<'_>,
    heard: &mut dyn FnMut(&CaseResult) -> bool,
) -> Result<Report, SuiteError> {
    let cases = selection.cases()?;
    let mut report = Report::begin(device, selection, &cases);
    report.statement.selection = Some(Selected::of(selection));
    let mut worker: Option<Worker> = None;
    let (mut done, mut false_starts) = (0, 0);
    for case in &cases {
        let begun = Instant::now();
        let answer = match worker.take() {
            Some(ready) if done < isolation.batch.max(1) => Ok(ready),
            _ => {
                done = 0;
                Worker::start(isolation)
            }
        };
        false_starts = if answer.is_err() { false_starts + 1 } else { 0 };
        done += 1;
        let answer = answer.and_then(|mut ready| {
            let mut answer = ready.ask(&case.name, isolation.timeout)?;
            if let Outcome::Failed(failure) | Outcome::Expected { failure, .. } = &mut answer.result.outcome {
                (failure.op, failure.case) = (case.op_name, case.name.clone());
            }
            worker = (!answer.lost).then_some(ready);
            Ok(answer)
        });
        let (result, declared) = match answer {
            Ok(Answer { result, declared, .. }) => (result, declared),
            Err((rule, what)) => {
                let failure = Failure::of(case, *Broken::plain(rule, what));
                let (outcome, seconds) = (Outcome::Failed(Box::new(failure)), begun.elapsed().as_secs_f64());
                let (case_name, op, spread) = (case.name.clone(), case.op_name, Vec::new());
                // Of the operands the child alone knew.
                let (formats, row_ratio) = (None, None);
                let result = CaseResult { case: case_name, op, formats, seconds, spread, row_ratio, outcome };
                (conclude(result, case, selection), None)
            }
        };
        let go_on = heard(&result);
        report.push(result, declared);
        if !go_on || false_starts == FALSE_STARTS {
            break;
        }
    }
    report.end(None);
    Ok(report)
}

/// A child that waits for a case. Ended when it is dropped.
struct Worker {
    child: Child,
    names: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Arc<Mutex<Vec<u8>>>,
}

type Lost = (Rule, String);

impl Worker {
    fn start(isolation: &Isolation<'_>) -> Result<Worker, Lost> {
        let failed = |error: io::Error| (Rule::Crashed, format!("the process for the case cannot be started: {error}"));
        let mut command = (isolation.command)().map_err(failed)?;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        let errors = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || answers(stdout, &sender));
        }
        if let Some(stderr) = child.stderr.take() {
            let errors = errors.clone();
            std::thread::spawn(move || keep_tail(stderr, &errors));
        }
        let names = child.stdin.take();
        let mut worker = Worker { child, names, lines, errors };
        match worker.line(isolation.timeout, "the device was not open")? {
            line if line == READY => Ok(worker),
            line => Err((Rule::Crashed, format!("the process for the case began with `{line}`"))),
        }
    }

    fn ask(&mut self, case: &str, timeout: Duration) -> Result<Answer, Lost> {
        // Where the child has ended the pipe is closed, and what it left behind says why.
        let _ = self.names.as_mut().map(|names| writeln!(names, "{case}").and_then(|()| names.flush()));
        let line = self.line(timeout, "the case gave no result")?;
        serde_json::from_str(&line)
            .map_err(|error| (Rule::Crashed, format!("the answer is no result: {error}: {line}")))
    }

    /// Waits for the child to end, which it does when there are no more names: a device is better closed than cut off. One
    /// that does not is ended.
    fn end(&mut self) -> Option<ExitStatus> {
        self.names = None;
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Either may be refused only where it has ended in the meantime.
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    fn line(&mut self, timeout: Duration, what: &str) -> Result<String, Lost> {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                // A refusal means that it has just ended.
                let _ = self.child.kill();
                Err((Rule::Hung, format!("{what} within {timeout:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let ended = self.end().map_or("ended by force".into(), |status| status.to_string());
                std::thread::sleep(Duration::from_millis(20)); // for the last of its standard error
                let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                let said = String::from_utf8_lossy(&errors);
                let said = if said.trim().is_empty() { String::new() } else { format!("; it said: {}", said.trim()) };
                Err((Rule::Crashed, format!("the process ended ({ended}){said}")))
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes on what is marked as an answer.
fn answers(stdout: impl Read, sender: &mpsc::Sender<String>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    while stdout.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let answer = text.split_once(MARK).map(|(_, answer)| answer.trim_end().to_owned());
        if answer.is_some_and(|answer| sender.send(answer).is_err()) {
            return;
        }
        line.clear();
    }
}

fn keep_tail(mut stderr: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut part = [0; 512];
    while let Ok(read @ 1..) = stderr.read(&mut part) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&part[..read]);
        let over = kept.len().saturating_sub(TAIL);
        kept.drain(..over);
    }
}
