//! Why a command could not run, each reason with its mend.

use std::io;
use std::path::PathBuf;

/// Everything that ends in exit code 2. What the libraries say is passed on as they say it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A device, or the model on it.
    #[error(transparent)]
    Model(Box<anychip_runtime::Error>),
    /// The checkpoint writer.
    #[error(transparent)]
    Synth(#[from] anychip_runtime::synth::SynthError),
    /// The cost model.
    #[error(transparent)]
    Plan(#[from] anychip_runtime::plan::PlanError),
    /// The conformance suite.
    #[error(transparent)]
    Suite(#[from] anychip_conformance::SuiteError),
    /// A benchmark: its name, its shape, or a device that does not run it.
    #[error(transparent)]
    Bench(#[from] anychip_bench::BenchError),
    /// A trace of a device that is not simulated.
    #[error("`{name}` is not simulated; name `ascend` or `ascend:PROFILE`")]
    NotSimulated { name: String },
    /// A name that no build knows.
    #[error("there is no device `{name}`; the devices are {known}")]
    UnknownDevice { name: String, known: String },
    /// `--check FILE --device D`, and the file is of other devices.
    #[error(
        "{file}: holds no report of `{name}`; its reports are of {held}: name one of these, or leave `--device` out"
    )]
    NotInReport { file: String, name: String, held: String },
    /// A form that none of the precisions asked for has.
    #[error("form `{form}` is not one of {precision} precision, which has {forms}; leave one of the two options out")]
    NoSuchForm { form: &'static str, precision: &'static str, forms: String },
    /// `--prompt ""`.
    #[error("the prompt is empty; give `--prompt` a text, or token ids with `--tokens FILE`")]
    EmptyPrompt,
    /// `--tokens` could not be read.
    #[error("{file}: cannot be read: {source}; name a file with a JSON array of token ids, or `-` for standard input")]
    TokensUnreadable { file: String, source: io::Error },
    /// `--tokens` holds something else.
    #[error("{file}: not a JSON array of token ids: {reason}; write them as [0, 297, 354]")]
    TokensSyntax { file: String, reason: serde_json::Error },
    /// `--tokens` holds `[]`.
    #[error("{file}: holds no token; give at least one id")]
    NoTokens { file: String },
    /// `--tokens` holds an id that the model has no row for.
    #[error("{file}: {source}")]
    Token { file: String, source: Box<anychip_runtime::Error> },
    /// The sequence would not fit.
    #[error(
        "a prompt of {prompt} tokens and {new} new ones need a context of {needed}, and {limit} is {context}; \
         {mend}"
    )]
    Context { prompt: usize, new: usize, needed: usize, limit: &'static str, context: usize, mend: &'static str },
    /// More context than the model has positions for.
    #[error("`--context {given}` is more than the {most} positions of the model; give at most {most}")]
    ContextBeyondModel { given: usize, most: usize },
    /// Neither a preset nor a folder.
    #[error("`{given}` is neither a known model ({known}) nor a folder; name one of these, or a checkpoint's folder")]
    UnknownModel { given: String, known: &'static str },
    /// More layers than the model has.
    #[error("{model} has {has} layers, and `--layers {given}` asks for more; ask for at most {has}")]
    TooManyLayers { model: String, has: usize, given: usize },
    /// The checkpoint that comes with the source is not where it should be.
    #[error("{}: the bundled checkpoint is not there; run from the repository's root, or name a folder with `verify` or \
             `generate`", .dir.display())]
    NoBundle { dir: PathBuf },
    /// Standard output refused, other than by being closed.
    #[error("cannot write to standard output: {source}; {}", mend(source))]
    Stdout { source: io::Error },
    /// A report could not be written.
    #[error("{}: cannot write the report: {source}; {}", .file.display(), mend(source))]
    Report { file: PathBuf, source: io::Error },
    /// A report cannot be JSON.
    #[error("the report cannot be written as JSON: {0}; leave `--json` out")]
    Json(serde_json::Error),
    /// The system gave no signal handler.
    #[error("Ctrl-C cannot be handled: {0}; run in an ordinary process")]
    Signals(ctrlc::Error),
    /// Ctrl-C, where nothing else failed.
    #[error("interrupted")]
    Interrupted,
}

/// What to do about a refusal of the operating system.
fn mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space, or name a file on another disk",
        io::ErrorKind::IsADirectory => "name a file, not a folder",
        _ => "name a file in a folder that exists and that you may write to",
    }
}

/// What the runtime's parts say, as the runtime says it.
macro_rules! of_the_model {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::Model(Box::new(error.into()))
            }
        })*
    };
}

of_the_model! {
    anychip_runtime::Error,
    anychip_runtime::config::ConfigError,
    anychip_runtime::prompt::PromptError,
    anychip_runtime::tokenizer::TokenizerError,
    anychip_core::Error,
}
