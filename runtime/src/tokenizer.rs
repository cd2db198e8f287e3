//! Text to token ids and back, over the `tokenizers` crate and a checkpoint's `tokenizer.json`.
//!
//! DeepSeek checkpoints use byte-level BPE: a token is a run of bytes, not of characters, so one character may take several
//! tokens. [`Stream`] holds such bytes back until the character is whole.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tokenizers::DecoderWrapper;

/// What can be wrong with a tokenizer or with what it is given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read the tokenizer {}: {source}; a checkpoint folder must hold its tokenizer.json (or pass token ids instead of text)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a tokenizer.
    #[error("{} is not a tokenizer.json: {reason}; copy the file of the checkpoint again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// The tokens are not byte-level, so that bytes cannot be put together from them.
    #[error("{} has {got}, this runtime decodes ByteLevel alone; use the tokenizer.json of a DeepSeek checkpoint", path.display())]
    Decoder {
        /// The file.
        path: PathBuf,
        /// The decoder found.
        got: &'static str,
    },
    /// The beginning-of-sentence id that the model's configuration names is no token.
    #[error("the begin-of-sentence id {id} is not in {} ({tokens} tokens); config.json and tokenizer.json are of different models", path.display())]
    Bos {
        /// The file.
        path: PathBuf,
        /// `bos_token_id`.
        id: u32,
        /// Tokens in the file.
        tokens: usize,
    },
    /// The tokenizer refused a text.
    #[error("{} cannot encode the text: {reason}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The tokenizer's reason.
        reason: String,
    },
    /// An id that is no token.
    #[error("token id {id} is not in {} ({tokens} tokens); the ids are of another model, or its vocabulary has unused rows", path.display())]
    UnknownId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: u32,
        /// Tokens in the file.
        tokens: usize,
    },
}

/// A byte-level tokenizer.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// The byte behind each character of the byte-level alphabet, by code point.
    bytes: Vec<Option<u8>>,
}

/// A `tokenizer.json` in bytes at most; V4's has 8 MB.
const MAX_BYTES: u64 = 512 << 20;

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that the file asks for are switched off: a prompt is never cut in silence.
    ///
    /// # Errors
    /// [`TokenizerError::Read`], [`Malformed`](TokenizerError::Malformed), [`Decoder`](TokenizerError::Decoder).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref().to_owned();
        let text = match crate::file::read(&path, MAX_BYTES) {
            Ok(text) => text,
            Err(source) => return Err(TokenizerError::Read { path, source }),
        };
        let mut inner = match tokenizers::Tokenizer::from_bytes(text) {
            Ok(inner) => inner,
            Err(reason) => return Err(TokenizerError::Malformed { path, reason: reason.to_string() }),
        };
        match inner.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => {}
            Some(_) => return Err(TokenizerError::Decoder { path, got: "another decoder" }),
            None => return Err(TokenizerError::Decoder { path, got: "no decoder" }),
        }
        inner.with_padding(None);
        if let Err(reason) = inner.with_truncation(None) {
            return Err(TokenizerError::Malformed { path, reason: reason.to_string() });
        }
        Ok(Tokenizer { path, inner, bytes: byte_alphabet() })
    }

    /// The ids of `text`. Special tokens written out in the text become their ids; no other token is added, whatever
    /// post-processor the file has, but `add_bos`: it comes first unless the text already begins with it.
    ///
    /// # Errors
    /// [`TokenizerError::Bos`], [`Encode`](TokenizerError::Encode).
    pub fn encode(&self, text: &str, add_bos: Option<u32>) -> Result<Vec<u32>, TokenizerError> {
        if let Some(id) = add_bos.filter(|&id| self.inner.id_to_token(id).is_none()) {
            return Err(TokenizerError::Bos { path: self.path.clone(), id, tokens: self.len() });
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|reason| TokenizerError::Encode { path: self.path.clone(), reason: reason.to_string() })?;
        let ids = encoding.get_ids();
        let bos = add_bos.filter(|bos| ids.first() != Some(bos));
        Ok(bos.into_iter().chain(ids.iter().copied()).collect())
    }

    /// The text of `ids`, without special tokens (BOS, EOS); bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut stream = self.stream();
        let mut text = String::new();
        for &id in ids {
            text += &stream.push(id)?;
        }
        Ok(text + &stream.finish())
    }

    /// A decoder for ids that come one by one.
    pub fn stream(&self) -> Stream<'_> {
        Stream { tokenizer: self, pending: Vec::new() }
    }

    /// Number of tokens, added ones included. The model's vocabulary may have more rows.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether there are no tokens at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a token given as it stands in the file (`<think>`, `<｜end▁of▁sentence｜>`).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Appends the bytes of a token; special tokens have none.
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) -> Result<(), TokenizerError> {
        let Some(token) = self.inner.id_to_token(id) else {
            return Err(TokenizerError::UnknownId { path: self.path.clone(), id, tokens: self.len() });
        };
        if self.inner.get_added_vocabulary().is_special_token(&token) {
            return Ok(());
        }
        let start = out.len();
        for c in token.chars() {
            match self.bytes.get(c as usize) {
                Some(&Some(byte)) => out.push(byte),
                // A character outside the alphabet: an added token, which stands for its own text.
                _ => {
                    out.truncate(start);
                    out.extend_from_slice(token.as_bytes());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Decodes ids one by one; the texts it returns join to what [`Tokenizer::decode`] gives for all ids.
pub struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    /// The bytes of a character that is not whole yet: at most 3 between calls.
    pending: Vec<u8>,
}

impl Stream<'_> {
    /// Takes the next id and returns the text that has become complete, often a whole word, sometimes nothing.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`]; the stream can go on with the next id.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        self.tokenizer.append_bytes(id, &mut self.pending)?;
        let mut text = String::new();
        let mut whole = 0;
        for chunk in self.pending.utf8_chunks() {
            let invalid = chunk.invalid();
            whole += chunk.valid().len();
            text.push_str(chunk.valid());
            // Only the last chunk can be the beginning of a character; every other invalid run is invalid for good.
            if whole + invalid.len() == self.pending.len() && may_continue(invalid) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            whole += invalid.len();
        }
        self.pending.drain(..whole);
        Ok(text)
    }

    /// What is left at the end of the ids: nothing, or U+FFFD for a character that never became whole.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could make these into a character.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// The byte-level alphabet: printable Latin-1 characters are their own byte, the other 68 bytes have the code points from 256 on,
/// in order. Source: GPT-2 `encoder.py`, `bytes_to_unicode`.
fn byte_alphabet() -> Vec<Option<u8>> {
    let mut alphabet = vec![None; 256];
    for byte in 0..=u8::MAX {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            alphabet[usize::from(byte)] = Some(byte);
        } else {
            alphabet.push(Some(byte));
        }
    }
    alphabet
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::Value;

    const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/tiny/tokenizer.json");
    const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/tiny/sample.json");
    const BOS_ID: u32 = 0;

    fn tiny() -> Tokenizer {
        Tokenizer::open(TINY).unwrap()
    }

    fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
        let mut stream = tokenizer.stream();
        let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        text += &stream.finish();
        text
    }

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn golden_samples_round_trip() {
        let tokenizer = tiny();
        let sample: Value = serde_json::from_str(&std::fs::read_to_string(SAMPLE).unwrap()).unwrap();
        let samples = sample["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 3);
        for s in samples {
            let prompt = s["prompt"].as_str().unwrap();
            assert_eq!(tokenizer.encode(prompt, Some(BOS_ID)).unwrap(), ids(&s["prompt_ids"]));
            assert_eq!(tokenizer.encode(prompt, None).unwrap(), ids(&s["prompt_ids"])[1..]);
            assert_eq!(tokenizer.decode(&ids(&s["prompt_ids"])).unwrap(), prompt);
            assert_eq!(tokenizer.decode(&ids(&s["new_ids"])).unwrap(), s["text"].as_str().unwrap());
            assert_eq!(streamed(&tokenizer, &ids(&s["new_ids"])), s["text"].as_str().unwrap());
        }
    }

    #[test]
    fn bos_comes_once() {
        let tokenizer = tiny();
        let with = tokenizer.encode("<｜begin▁of▁sentence｜>And", Some(BOS_ID)).unwrap();
        assert_eq!(with, tokenizer.encode("And", Some(BOS_ID)).unwrap());
        assert_eq!(with, tokenizer.encode("<｜begin▁of▁sentence｜>And", None).unwrap());
        assert_eq!(tokenizer.encode("", Some(BOS_ID)).unwrap(), [BOS_ID]);
        assert_eq!(tokenizer.id("<｜end▁of▁sentence｜>"), Some(1));
        assert_eq!(tokenizer.id("<think>"), None);
    }

    #[test]
    fn a_file_that_adds_bos_or_truncates_does_neither() {
        let mut json: Value = serde_json::from_str(&std::fs::read_to_string(TINY).unwrap()).unwrap();
        let bos = "<｜begin▁of▁sentence｜>";
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}}
        });
        json["truncation"] =
            serde_json::json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        let tokenizer = Tokenizer::open(&path).unwrap();
        let expected = tiny().encode("And it came to pass", Some(BOS_ID)).unwrap();
        assert_eq!(tokenizer.encode("And it came to pass", Some(BOS_ID)).unwrap(), expected);
        assert_eq!(tokenizer.encode("And it came to pass", None).unwrap(), expected[1..]);
    }

    #[test]
    fn characters_split_over_tokens_come_out_whole() {
        let tokenizer = tiny();
        let text = "né 你好 😀 \u{feff}e\u{301} \u{fffd}!";
        let ids = tokenizer.encode(text, None).unwrap();
        assert!(ids.len() > text.chars().count(), "the tiny vocabulary spells these characters by the byte");
        let mut stream = tokenizer.stream();
        let mut out = String::new();
        for &id in &ids {
            let piece = stream.push(id).unwrap();
            out += &piece;
            assert!(text.starts_with(&out), "{out:?} + {piece:?}");
            assert!(stream.pending.len() <= 3);
        }
        assert_eq!(out, text, "nothing is held back at the end");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn broken_bytes_decode_as_the_crate_decodes_them() {
        let tokenizer = tiny();
        // Every pair and a walk over all ids, invalid sequences among them.
        let mut state = 1u32;
        for _ in 0..2000 {
            let ids: Vec<u32> = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // The first 258 ids are the special tokens and the single bytes: most sequences of those are invalid.
                    if state & 0x100 == 0 { (state >> 16) % 258 } else { (state >> 16) % 1024 }
                })
                .collect();
            let expected = tokenizer.inner.decode(&ids, true).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), expected, "{ids:?}");
            assert_eq!(streamed(&tokenizer, &ids), expected, "{ids:?}");
        }
    }

    #[test]
    fn an_unfinished_character_is_marked_at_the_end() {
        let tokenizer = tiny();
        let ids = tokenizer.encode("😀", None).unwrap();
        assert_eq!(tokenizer.decode(&ids[..ids.len() - 1]).unwrap(), "\u{fffd}");
        let mut stream = tokenizer.stream();
        assert_eq!(stream.push(ids[0]).unwrap(), "");
        let a = tokenizer.id("a").unwrap();
        assert_eq!(stream.push(a).unwrap(), "\u{fffd}a");
    }

    #[test]
    fn unknown_ids_are_errors_and_the_stream_goes_on() {
        let tokenizer = tiny();
        let error = tokenizer.decode(&[297, 1024]).unwrap_err().to_string();
        assert!(
            error.contains("token id 1024") && error.contains("(1024 tokens)") && error.contains("tokenizer.json"),
            "{error}"
        );
        let mut stream = tokenizer.stream();
        assert!(stream.push(u32::MAX).is_err());
        assert_eq!(stream.push(297).unwrap(), "And");
        let error = tokenizer.encode("x", Some(5000)).unwrap_err().to_string();
        assert!(error.contains("5000") && error.contains("config.json"), "{error}");
    }

    #[test]
    fn files_that_are_no_tokenizer_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("tokenizer.json");
        let error = Tokenizer::open(&missing).map(|_| ()).unwrap_err();
        assert!(matches!(error, TokenizerError::Read { .. }));
        assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
        for text in ["", "{}", "[1, 2", "\u{0}\u{1}"] {
            std::fs::write(&missing, text).unwrap();
            let error = Tokenizer::open(&missing).map(|_| ()).unwrap_err();
            assert!(matches!(error, TokenizerError::Malformed { .. }), "{text}: {error}");
        }
        let mut json: Value = serde_json::from_str(&std::fs::read_to_string(TINY).unwrap()).unwrap();
        for decoder in [Value::Null, serde_json::json!({"type": "Fuse"})] {
            json["decoder"] = decoder;
            std::fs::write(&missing, json.to_string()).unwrap();
            let error = Tokenizer::open(&missing).map(|_| ()).unwrap_err();
            assert!(matches!(error, TokenizerError::Decoder { .. }), "{error}");
        }
    }
}
