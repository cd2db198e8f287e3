//! The command line. Scripts depend on these names.

use anychip_conformance::Profile as SuiteProfile;
use anychip_runtime::Precision;
use anychip_runtime::prompt::{Profile as PromptProfile, Thinking};
use anychip_runtime::verify::Form;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Run DeepSeek V4 on any chip, and judge the chip.
///
/// Without a command: the devices found, a quick conformance run on each, the bundled tiny checkpoint verified, and a
/// short text. Exit codes: 0 passed, 1 something failed, 2 could not run.
#[derive(Debug, Parser)]
#[command(name = "anychip", version, max_term_width = 120)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The devices of this build and this machine
    Devices(DevicesArgs),
    /// Judge devices, operation by operation, against the oracle
    Conformance(ConformanceArgs),
    /// Does the suite catch planted faults, and nothing else?
    Faults(FaultsArgs),
    /// Run the checkpoint in DIR and compare with the numbers it brings along (io.safetensors, io_served.safetensors)
    Verify(VerifyArgs),
    /// Continue a prompt with the checkpoint in DIR
    Generate(GenerateArgs),
    /// Time operations on devices, each result judged before it is timed
    Bench(BenchArgs),
    /// The Ascend simulator against published figures
    Calibrate(CalibrateArgs),
    /// Write what the cores of a simulated Ascend do in an operation, for Perfetto, and how busy their engines are
    Trace(TraceArgs),
    /// Parameters, FLOPs per token and KV bytes of a model, against DeepSeek-V3.2
    Plan(PlanArgs),
    /// Write a random checkpoint in the official layout
    Synth(SynthArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Json {
    /// Write one JSON document to FILE; without FILE, or with `-`, to standard output and nothing else there
    #[arg(long = "json", value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) target: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConformanceArgs {
    /// Device to judge; may be repeated [default: reference and cpu]
    #[arg(long = "device", value_name = "D")]
    pub(crate) devices: Vec<String>,
    /// Operation to judge; may be repeated [default: all]
    #[arg(long = "op", value_name = "OP")]
    pub(crate) ops: Vec<String>,
    /// Which shapes: quick takes seconds, full has real head counts and widths
    #[arg(long, default_value = "quick", value_parser = named(SUITE_PROFILES))]
    pub(crate) profile: SuiteProfile,
    /// Run this one case, by the name that a report gives it
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Option<String>,
    /// Seed of the inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Show under each operation the formats of its operands, and what the device makes of each
    #[arg(long)]
    pub(crate) formats: bool,
    /// Write a JUnit XML report to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Write one HTML page with everything in it to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Count what a device does not support as failed
    #[arg(long)]
    pub(crate) strict: bool,
    /// List of cases that are known to fail, with reasons (TOML); one that passes is a failure
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Option<PathBuf>,
    /// Run cases in child processes, so that a crash or a hang is the result of one case
    #[arg(long)]
    pub(crate) isolate: bool,
    /// Seconds that a case may take in its child process
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..), requires = "isolate")]
    pub(crate) timeout: u64,
    /// Save inputs, outputs and bounds of each failing case in DIR, as safetensors
    #[arg(long, value_name = "DIR")]
    pub(crate) save_failures: Option<PathBuf>,
    /// Run a file that `--save-failures` wrote again, over the inputs in it, and say whether it still fails
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ops", "profile", "case", "seed", "formats", "strict", "expect", "isolate", "junit", "html", "save_failures"])]
    pub(crate) replay: Option<PathBuf>,
    /// Check a report that `--json` wrote: does all of it follow from its results, and these from its cases? With
    /// `--device`, also run the same cases here and compare
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ops", "profile", "case", "seed", "formats", "strict", "expect", "isolate", "junit", "html", "save_failures", "replay"])]
    pub(crate) check: Option<PathBuf>,
    /// The child's side of `--isolate`: names of cases on standard input, results on standard output
    #[arg(long, hide = true)]
    pub(crate) isolated_child: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FaultsArgs {
    /// Seed of the cases that the faults run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Seeds that the correct device runs, from that one on: none may fail
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) seeds: u64,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Folder with config.json, *.safetensors and io.safetensors
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Device to run on; may be repeated
    #[arg(long = "device", value_name = "D", default_value = "cpu")]
    pub(crate) devices: Vec<String>,
    /// Arithmetic [default: exact, and served where the folder has io_served.safetensors]
    #[arg(long, value_parser = named(PRECISIONS))]
    pub(crate) precision: Option<Precision>,
    /// How tokens are fed, or what is compared; may be repeated [default: all of the precision]
    #[arg(long = "form", value_name = "F", value_parser = named(FORMS))]
    pub(crate) forms: Vec<Form>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// Folder with config.json, *.safetensors and, for text, tokenizer.json
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Device to run on
    #[arg(long, value_name = "D", default_value = "cpu")]
    pub(crate) device: String,
    /// New tokens at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) max_tokens: usize,
    /// Take the prompt as a user's turn, to be answered with this much reasoning
    #[arg(long, conflicts_with = "tokens", value_parser = named(THINKING))]
    pub(crate) think: Option<Thinking>,
    /// Release whose prompt format `--think` follows
    #[arg(long, requires = "think", default_value = "preview", value_parser = named(PROMPT_PROFILES))]
    pub(crate) profile: PromptProfile,
    /// 0 takes the likeliest token; the model card recommends 1
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Choose among the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature")]
    pub(crate) top_p: f32,
    /// Seed of the random choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Arithmetic
    #[arg(long, default_value = "exact", value_parser = named(PRECISIONS))]
    pub(crate) precision: Precision,
    /// Tokens that the KV cache has room for [default: prompt and new tokens]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// What is continued: one of the two.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// Text to continue; the begin-of-sentence token comes first
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// File with a JSON array of token ids, taken as they are; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Device to time; may be repeated
    #[arg(long = "device", value_name = "D", default_value = "cpu")]
    pub(crate) devices: Vec<String>,
    /// Operation: linear, expert_gemm, dense_attention, sparse_attention, top_k; of a simulated Ascend also copy
    #[arg(long = "op", value_name = "OP", required = true)]
    pub(crate) op: String,
    /// Sizes and types, as `m=64,n=64,k=64,dtype=f16`
    #[arg(long, value_name = "k=v,..")]
    pub(crate) shape: anychip_bench::Shape,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CalibrateArgs {
    /// Only figures of this profile, `ascend:PROFILE` [default: all]
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
    /// Vary the guessed figures by half either way as well: takes minutes
    #[arg(long)]
    pub(crate) sensitivity: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// Simulated device
    #[arg(long, value_name = "D", default_value = "ascend")]
    pub(crate) device: String,
    /// Operation, as `bench` has them
    #[arg(long, value_name = "OP")]
    pub(crate) op: String,
    /// Sizes and types, as `bench` has them
    #[arg(long, value_name = "k=v,..")]
    pub(crate) shape: anychip_bench::Shape,
    /// Cores that are shown
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) cores: usize,
    /// File to write
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Draw the first core's engines into an SVG file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) drawing: Option<PathBuf>,
    /// Microseconds that are drawn [default: all]
    #[arg(long, value_name = "US", requires = "drawing")]
    pub(crate) until: Option<f64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// v4-flash, v4-pro, tiny, or a folder with config.json
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// Tokens of context [default: as many as the model was trained for]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SynthArgs {
    /// Model whose sizes are taken
    #[arg(value_name = "MODEL", value_parser = PossibleValuesParser::new(["tiny", "v4-flash", "v4-pro"]))]
    pub(crate) model: String,
    /// Folder to write, new or empty
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Keep the first N layers [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) layers: Option<usize>,
    /// Routed experts per layer [default: the model's]
    #[arg(long, value_name = "N")]
    pub(crate) experts: Option<usize>,
    /// Seed of the weights
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// A parser for names.
fn named<T: Copy + Send + Sync + 'static>(all: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    let value = |given: &str| all.iter().find(|(name, _)| *name == given).map(|(_, value)| *value);
    PossibleValuesParser::new(all.iter().map(|(name, _)| *name))
        .try_map(move |given| value(&given).ok_or_else(|| format!("unknown name `{given}`")))
}

const PRECISIONS: &[(&str, Precision)] = &[("exact", Precision::Exact), ("served", Precision::Served)];
const FORMS: &[(&str, Form)] = &[
    ("prefill", Form::Prefill),
    ("decode", Form::Decode),
    ("chunked", Form::Chunked),
    ("layer", Form::Layer),
    ("short", Form::Short),
];
const THINKING: &[(&str, Thinking)] =
    &[("off", Thinking::Off), ("low", Thinking::Low), ("high", Thinking::High), ("max", Thinking::Max)];
const PROMPT_PROFILES: &[(&str, PromptProfile)] =
    &[("preview", PromptProfile::Preview), ("official_0731", PromptProfile::Official0731)];
const SUITE_PROFILES: &[(&str, SuiteProfile)] = &[("quick", SuiteProfile::Quick), ("full", SuiteProfile::Full)];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn json_without_a_file_is_standard_output() {
        let target = |words: &[&str]| match Args::try_parse_from(words).unwrap().command {
            Some(Command::Plan(args)) => args.json.target,
            _ => None,
        };
        assert_eq!(target(&["anychip", "plan", "v4-pro"]), None);
        assert_eq!(target(&["anychip", "plan", "v4-pro", "--json"]), Some("-".into()));
        assert_eq!(target(&["anychip", "plan", "--json", "--context", "8", "v4-pro"]), Some("-".into()));
        assert_eq!(target(&["anychip", "plan", "v4-pro", "--json", "f"]), Some("f".into()));
    }

    #[test]
    fn names_are_those_of_the_libraries() {
        PRECISIONS.iter().for_each(|(name, precision)| assert_eq!(*name, precision.name()));
        FORMS.iter().for_each(|(name, form)| assert_eq!(*name, form.name()));
        THINKING.iter().for_each(|(name, thinking)| assert_eq!(*name, thinking.to_string()));
        PROMPT_PROFILES.iter().for_each(|(name, profile)| assert_eq!(*name, profile.to_string()));
        let parsed = Args::try_parse_from([
            "anychip",
            "verify",
            "d",
            "--precision",
            "served",
            "--form",
            "layer",
            "--form",
            "short",
        ]);
        let Some(Command::Verify(args)) = parsed.unwrap().command else { unreachable!() };
        assert_eq!((args.precision, args.devices), (Some(Precision::Served), vec!["cpu".to_owned()]));
        assert_eq!(args.forms, [Form::Layer, Form::Short]);
        assert!(Args::try_parse_from(["anychip", "verify", "d", "--form", "sideways"]).is_err());
        assert!(Args::try_parse_from(["anychip", "generate", "d"]).is_err(), "a prompt or tokens");
        assert!(Args::try_parse_from(["anychip", "generate", "d", "--prompt", "x", "--top-p", "0.9"]).is_err());
    }
}
