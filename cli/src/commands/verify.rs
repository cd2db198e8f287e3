//! `anychip verify`: a checkpoint on each device, against the numbers that it brings along.

use super::fallback_remark;
use crate::args::VerifyArgs;
use crate::devices::Name;
use crate::error::Failure;
use crate::output::Output;
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_runtime::config::Config;
use anychip_runtime::verify::{Expected, ExpectedServed, Form, Verdict, verify};
use anychip_runtime::{Model, Options, Precision};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    dir: &'a Path,
    passed: bool,
    results: &'a [Verdict],
}

pub(crate) fn run(args: &VerifyArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let subject = Subject::open(&args.dir)?;
    let precisions = match args.precision {
        Some(precision) => vec![precision],
        None => subject.precisions(),
    };
    let plan = forms(&precisions, &args.forms)?;
    let devices = Name::of_all(&args.devices)?;
    output.print(HEADER)?;
    let mut results = Vec::new();
    for device in devices {
        for (precision, forms) in &plan {
            subject.judge(device, *precision, forms, &mut output, &mut results)?;
        }
    }
    let passed = results.iter().all(|verdict| verdict.passed);
    output.finish(&Document { schema: "anychip.verify/1", dir: &args.dir, passed, results: &results })?;
    Ok(passed.into())
}

/// The forms to run in each precision: those asked for, or all.
fn forms(precisions: &[Precision], asked: &[Form]) -> Result<Vec<(Precision, Vec<Form>)>, Failure> {
    if let Some(form) = asked.iter().find(|form| precisions.iter().all(|&p| !Form::of(p).contains(form))) {
        let precision = precisions.last().copied().unwrap_or(Precision::Exact);
        let names: Vec<&str> = Form::of(precision).iter().map(|form| form.name()).collect();
        return Err(Failure::NoSuchForm { form: form.name(), precision: precision.name(), forms: names.join(", ") });
    }
    let wanted = |form: &Form| asked.is_empty() || asked.contains(form);
    let of = |&precision: &Precision| (precision, Form::of(precision).iter().copied().filter(wanted).collect());
    Ok(precisions.iter().map(of).filter(|(_, forms): &(_, Vec<Form>)| !forms.is_empty()).collect())
}

/// A checkpoint's folder and the numbers in it.
pub(super) struct Subject<'a> {
    dir: &'a Path,
    config: Config,
    expected: Expected,
    served: Option<ExpectedServed>,
}

pub(super) const HEADER: &str = "device     precision form     rows max_abs_diff  argmax    loss result\n";

impl Subject<'_> {
    pub(super) fn open(dir: &Path) -> Result<Subject<'_>, Failure> {
        let config = Config::open(dir)?;
        let expected = Expected::open(dir, &config)?;
        let served = ExpectedServed::open(dir, &config)?;
        Ok(Subject { dir, config, expected, served })
    }

    fn precisions(&self) -> Vec<Precision> {
        match (&self.served, &self.config.quantization) {
            (Some(_), Some(_)) => vec![Precision::Exact, Precision::Served],
            _ => vec![Precision::Exact],
        }
    }

    /// Loads the model once and judges it in each form, a line for each.
    pub(super) fn judge(
        &self,
        device: Name,
        precision: Precision,
        forms: &[Form],
        output: &mut Output,
        results: &mut Vec<Verdict>,
    ) -> Result<(), Failure> {
        let served = self.served.as_ref();
        let tokens = served.map_or(0, |served| served.tokens.len()).max(self.expected.tokens.len());
        let options = Options { precision, context: tokens.max(1), ..Options::default() };
        let mut model = {
            let line = Line::bytes(&format!("{device}: loading"));
            Model::open(device.open_interruptible()?, self.dir, options, &line, interrupt::flag())?
        };
        for &form in forms {
            let verdict = {
                let _line = Line::spinner(&format!("{device}: {} {}", precision.name(), form.name()));
                verify(&mut model, form, &self.expected, served)?
            };
            interrupt::check()?;
            output.print(&row(&verdict))?;
            results.push(verdict);
        }
        Ok(())
    }
}

/// A result as a line, and the rule below it where it does not hold.
fn row(verdict: &Verdict) -> String {
    let Verdict { device, precision, form, score, loss, passed, rule, fallback_ops } = verdict;
    let figure = |value: &Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    let (argmax, loss) = (figure(&score.argmax_agreement), figure(loss));
    let (rows, most) = (score.rows, score.max_abs_diff);
    let result = if *passed { "passed" } else { "FAILED" };
    let remark = fallback_remark(fallback_ops);
    let mut text = format!(
        "{device:<10} {precision:<9} {form:<7} {rows:>5} {most:>12.2e} {argmax:>7} {loss:>7} {result}{remark}\n"
    );
    if !passed {
        text += &format!("           rule: {rule}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forms_are_those_of_each_precision() {
        let both = [Precision::Exact, Precision::Served];
        let all = forms(&both, &[]).unwrap();
        assert_eq!(all.iter().map(|(_, forms)| forms.len()).collect::<Vec<_>>(), [3, 4]);
        let layer = forms(&both, &[Form::Layer]).unwrap();
        assert_eq!(layer, [(Precision::Served, vec![Form::Layer])]);
        let message = forms(&[Precision::Exact], &[Form::Layer]).unwrap_err().to_string();
        assert!(message.contains("`layer`") && message.contains("prefill, decode, chunked"), "{message}");
    }
}
