//! `anychip` without a command: what a newcomer sees first.

use super::generate::Run;
use super::verify::{HEADER, Subject};
use super::{conformance, devices as list};
use crate::devices::{EVERYWHERE, Name};
use crate::error::Failure;
use crate::output::Output;
use crate::{Outcome, interrupt};
use anychip_conformance::{Counts, Selection};
use anychip_runtime::Precision;
use anychip_runtime::generate::Continuation;
use anychip_runtime::sample::Sampling;
use anychip_runtime::tokenizer::Tokenizer;
use anychip_runtime::verify::Form;
use std::path::{Path, PathBuf};

const PROMPT: &str = "And it came to pass";
const NEW_TOKENS: usize = 48;

pub(crate) fn run() -> Result<Outcome, Failure> {
    let mut output = Output::begin(None)?;
    let dir = bundled()?;
    output.line("Devices")?;
    list::list(&mut output)?;

    output.line("\nConformance, quick profile: each operation against the oracle")?;
    let mut passed = true;
    for device in EVERYWHERE {
        let report = conformance::judge(device, &Selection::default())?;
        interrupt::check()?;
        let Counts { passed: kept, executed, unsupported, .. } = report.counts;
        let device = device.to_string();
        output.line(&format!("{device:<10} {kept} of {executed} cases passed, {unsupported} unsupported"))?;
        for failure in report.failures() {
            output.line(&format!("FAILED {failure}"))?;
        }
        passed &= report.passed;
    }

    output.line(&format!("\nThe checkpoint in {}, against logits that other code computed", dir.display()))?;
    output.print(HEADER)?;
    let subject = Subject::open(&dir)?;
    let mut results = Vec::new();
    for device in EVERYWHERE {
        subject.judge(device, Precision::Exact, &[Form::Prefill], &mut output, &mut results)?;
    }
    subject.judge(Name::Cpu, Precision::Served, &[Form::Layer], &mut output, &mut results)?;
    passed &= results.iter().all(|verdict| verdict.passed);

    output.line("\nWhat it makes of a few words, on cpu")?;
    generate(&dir, &mut output)?;

    output.line(if passed { "\nAll passed." } else { "\nSomething FAILED; see above." })?;
    let dir = dir.display();
    // Not judged above: an adapter in software would take minutes.
    let others = Name::found().get(EVERYWHERE.len()).map(|name| format!("anychip conformance --device {name}\n  "));
    let others = others.unwrap_or_default();
    output.print(&format!(
        "Next:\n  {others}\
         anychip verify {dir} --device reference --device cpu\n  \
         anychip generate {dir} --prompt \"In the beginning\" --temperature 1\n  \
         anychip plan v4-pro\n  \
         anychip synth v4-flash --layers 3 --experts 16 flash3\n  \
         anychip --help\n\
         (from a clone: `cargo run --release -- verify ...`)\n"
    ))?;
    Ok(passed.into())
}

fn generate(dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let tokenizer = Tokenizer::open(dir.join("tokenizer.json"))?;
    let mut run = Run::open(Name::Cpu, dir, Precision::Exact, 256)?;
    let config = run.model.config();
    let prompt = tokenizer.encode(PROMPT, Some(config.bos))?;
    let stop = config.eos.clone();
    let how = Continuation { max_tokens: NEW_TOKENS, sampling: Sampling::Greedy, seed: 0, stop };
    output.print(PROMPT)?;
    let made = run.continue_prompt(&prompt, &how, Some(&tokenizer), output)?;
    interrupt::check()?;
    output.line(&format!("({:.0} new tokens per second)", made.decode_tokens_per_s()))
}

/// The checkpoint that comes with the source: from the repository's root, else from where this was built.
fn bundled() -> Result<PathBuf, Failure> {
    let here = Path::new("golden/tiny").to_owned();
    let there = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join(&here);
    let held = |dir: &PathBuf| dir.join("config.json").exists();
    [here.clone(), there].into_iter().find(held).ok_or(Failure::NoBundle { dir: here })
}
