//! `anychip generate`: a prompt continued, token by token.

use super::fallback_remark;
use crate::args::GenerateArgs;
use crate::devices::Name;
use crate::error::Failure;
use crate::output::{Output, note};
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_runtime::config::Config;
use anychip_runtime::generate::{Continuation, Generation, generate};
use anychip_runtime::prompt::user_turn;
use anychip_runtime::sample::{Sampler, Sampling};
use anychip_runtime::tokenizer::Tokenizer;
use anychip_runtime::{Error, Model, Options, Precision, Work};
use serde::Serialize;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    device: String,
    precision: &'static str,
    /// New tokens, the one that ended them left out.
    tokens: &'a [u32],
    /// Their text, where the folder has a tokenizer.
    text: Option<String>,
    prompt_tokens: usize,
    /// `stop` (an end token), `length` (`--max-tokens`) or `interrupted`.
    finish: &'static str,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    /// The clock of the two speeds.
    clock: &'static str,
    /// What a token after the first asked of the driver; null where the device does not count, or there was none.
    per_token: Option<PerToken>,
    fallback_ops: Vec<(String, u64)>,
}

/// Means over the tokens after the first.
#[derive(Serialize)]
struct PerToken {
    submits: f64,
    dispatches: f64,
    /// The same by the number of layers; embedding and head are in it.
    dispatches_per_layer: f64,
    /// Operations of the contract: dispatches at least.
    least_dispatches: f64,
    /// Bytes of device memory that kernels read and write.
    moved_bytes: f64,
    /// The same if each operation moved each of its operands once.
    least_moved_bytes: f64,
    read_back_bytes: f64,
}

impl PerToken {
    fn of(made: &Generation, layers: usize) -> Option<PerToken> {
        let spent = made.decode_activity.filter(|_| made.decode_steps > 0)?;
        let mean = |count: u64| count as f64 / made.decode_steps as f64;
        Some(PerToken {
            submits: mean(spent.submits),
            dispatches: mean(spent.dispatches),
            dispatches_per_layer: mean(spent.dispatches) / layers as f64,
            least_dispatches: mean(made.decode_work.operations),
            moved_bytes: mean(spent.moved),
            least_moved_bytes: mean(made.decode_work.cost.bytes()),
            read_back_bytes: mean(spent.read_back),
        })
    }
}

pub(crate) fn run(args: &GenerateArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let device = Name::of(&args.device)?;
    let config = Config::open(&args.dir)?;
    let (prompt, tokenizer) = prompt(args, &config)?;
    let context = context(args, prompt.len(), config.max_position_embeddings)?;
    let how = Continuation {
        max_tokens: args.max_tokens,
        sampling: sampling(args)?,
        seed: args.seed,
        stop: config.eos.clone(),
    };
    let mut run = Run::open(device, &args.dir, args.precision, context)?;
    let made = run.continue_prompt(&prompt, &how, tokenizer.as_ref(), &mut output)?;

    let fallback_ops = run.fallbacks();
    let clock = "host";
    let (prefill, decode) = (made.prefill_tokens_per_s(), made.decode_tokens_per_s());
    note(&format!(
        "{}, {} precision: {} prompt tokens at {prefill:.1}/s, {} new tokens at {decode:.1}/s ({clock} clock){}",
        device,
        args.precision.name(),
        made.prompt_tokens,
        made.tokens.len(),
        fallback_remark(&fallback_ops)
    ));
    let finish = match made.tokens.len() {
        _ if interrupt::raised() => "interrupted",
        count if count == args.max_tokens => "length",
        _ if output.closed() => "interrupted",
        _ => "stop",
    };
    output.finish(&Document {
        schema: "anychip.generate/1",
        device: run.model.device().info().name,
        precision: args.precision.name(),
        text: tokenizer.as_ref().map(|tokenizer| text(tokenizer, &made.tokens)),
        tokens: &made.tokens,
        prompt_tokens: made.prompt_tokens,
        finish,
        prefill_tokens_per_s: prefill,
        decode_tokens_per_s: decode,
        clock,
        per_token: PerToken::of(&made, config.layers.len()),
        fallback_ops,
    })?;
    interrupt::check()?;
    Ok(Outcome::Passed)
}

/// The prompt's tokens, and the tokenizer where there is one: text needs it, tokens do not.
fn prompt(args: &GenerateArgs, config: &Config) -> Result<(Vec<u32>, Option<Tokenizer>), Failure> {
    let tokenizer = args.dir.join("tokenizer.json");
    if let Some(file) = &args.source.tokens {
        let tokenizer = tokenizer.exists().then(|| Tokenizer::open(&tokenizer)).transpose()?;
        return Ok((tokens(file, config.vocab_size)?, tokenizer));
    }
    let text = args.source.prompt.as_deref().unwrap_or_default();
    if text.is_empty() {
        return Err(Failure::EmptyPrompt);
    }
    let tokenizer = Tokenizer::open(&tokenizer)?;
    let turn = args.think.map(|thinking| user_turn(text, thinking, args.profile)).transpose()?;
    Ok((tokenizer.encode(turn.as_deref().unwrap_or(text), Some(config.bos))?, Some(tokenizer)))
}

/// Token ids from a file or from standard input, each within the vocabulary.
fn tokens(path: &Path, vocab: usize) -> Result<Vec<u32>, Failure> {
    let stdin = path == Path::new("-");
    let file = if stdin { "standard input".into() } else { path.display().to_string() };
    let mut json = String::new();
    let read = if stdin {
        std::io::stdin().read_to_string(&mut json).map(drop)
    } else {
        std::fs::read_to_string(path).map(|text| json = text)
    };
    if let Err(source) = read {
        return Err(Failure::TokensUnreadable { file, source });
    }
    let tokens: Vec<u32> = match serde_json::from_str(&json) {
        Ok(tokens) => tokens,
        Err(reason) => return Err(Failure::TokensSyntax { file, reason }),
    };
    if tokens.is_empty() {
        return Err(Failure::NoTokens { file });
    }
    match tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocab) {
        Some((place, &token)) => {
            Err(Failure::Token { file, source: Error::TokenOutOfRange { token, place, vocab }.into() })
        }
        None => Ok(tokens),
    }
}

/// Tokens of context for a prompt and its continuation: a model that is too small for them is never loaded.
fn context(args: &GenerateArgs, prompt: usize, most: usize) -> Result<usize, Failure> {
    let new = args.max_tokens;
    let needed = prompt.saturating_add(new);
    let (limit, context, mend) = match args.context {
        Some(context) if context > most => return Err(Failure::ContextBeyondModel { given: context, most }),
        Some(context) if needed > context => ("`--context`", context, "give more context, or fewer `--max-tokens`"),
        None if needed > most => {
            ("the longest that the model has", most, "shorten the prompt or give fewer `--max-tokens`")
        }
        given => return Ok(given.unwrap_or(needed)),
    };
    Err(Failure::Context { prompt, new, needed, limit, context, mend })
}

fn sampling(args: &GenerateArgs) -> Result<Sampling, Failure> {
    let GenerateArgs { temperature, top_p, seed, .. } = *args;
    if temperature == 0.0 {
        return Ok(Sampling::Greedy);
    }
    let sampling = Sampling::Random { temperature, top_p };
    // Only to have its limits checked before a model is loaded.
    Sampler::new(sampling, seed)?;
    Ok(sampling)
}

/// Text of tokens; an id without a token (a vocabulary has unused rows) becomes U+FFFD.
fn text(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let pushed = |&token: &u32| stream.push(token).unwrap_or_else(|_| UNUSED_ROW.into());
    let text: String = tokens.iter().map(pushed).collect();
    text + &stream.finish()
}

const UNUSED_ROW: &str = "\u{fffd}";

/// A model that stops at Ctrl-C.
pub(super) struct Run {
    pub(super) model: Model,
}

impl Run {
    pub(super) fn open(device: Name, dir: &Path, precision: Precision, context: usize) -> Result<Run, Failure> {
        let line = Line::bytes(&format!("{device}: loading"));
        let options = Options { precision, context, ..Options::default() };
        Ok(Run { model: Model::open(device.open_interruptible()?, dir, options, &line, interrupt::flag())? })
    }

    fn fallbacks(&self) -> Vec<(String, u64)> {
        self.model.device().fallbacks().into_iter().map(|(op, count)| (op.into(), count)).collect()
    }

    /// Continues `prompt`, printing text, or ids where there is no tokenizer. Ctrl-C ends it early with what there is.
    pub(super) fn continue_prompt(
        &mut self,
        prompt: &[u32],
        how: &Continuation,
        tokenizer: Option<&Tokenizer>,
        output: &mut Output,
    ) -> Result<Generation, Failure> {
        let mut stream = tokenizer.map(Tokenizer::stream);
        let mut heard =
            Heard { start: Instant::now(), tokens: Vec::new(), first: Duration::ZERO, last: Duration::ZERO };
        let mut refused = None;
        let mut line = Some(Line::spinner("reading the prompt"));
        let result = generate(&mut self.model, prompt, how, &mut |token| {
            line = None;
            heard.hear(token);
            let piece = match &mut stream {
                Some(stream) => stream.push(token).unwrap_or_else(|_| UNUSED_ROW.into()),
                None => format!("{token} "),
            };
            refused = output.print(&piece).err();
            refused.is_none() && !output.closed() && !interrupt::raised()
        });
        if let Some(failure) = refused {
            return Err(failure);
        }
        if !heard.tokens.is_empty() {
            output.line(&stream.map(|stream| stream.finish()).unwrap_or_default())?;
        }
        match result {
            // Stopped in the midst of a step: what was heard before it counts.
            Err(_) if interrupt::raised() && !heard.tokens.is_empty() => Ok(heard.generation(prompt.len())),
            other => Ok(other?),
        }
    }
}

/// Tokens as they came.
struct Heard {
    start: Instant,
    tokens: Vec<u32>,
    first: Duration,
    last: Duration,
}

impl Heard {
    fn hear(&mut self, token: u32) {
        self.last = self.start.elapsed();
        if self.tokens.is_empty() {
            self.first = self.last;
        }
        self.tokens.push(token);
    }

    fn generation(self, prompt_tokens: usize) -> Generation {
        Generation {
            prompt_tokens,
            prefill: self.first,
            decode: self.last - self.first,
            decode_steps: self.tokens.len() - 1,
            decode_activity: None,
            decode_work: Work::default(),
            tokens: self.tokens,
        }
    }
}
