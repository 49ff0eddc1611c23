//! Texts to tokens. A conversation's messages come again with each of its requests: each is tokenised once.

use std::collections::HashMap;
use std::sync::Arc;

use aiperf_tokens::o200k_base;

use crate::digests::Digest;
use crate::prompt::{self, Message};

/// Tokens kept in memory for messages that come again; twice as many at most.
const KEPT_TOKENS: usize = 16 << 20;

/// Whoever tokenises.
pub trait Tokenize: Send {
    /// The tokens of each text; `None`: nobody is there any more who could say.
    fn encode(&mut self, texts: &[String]) -> Option<Vec<Vec<u32>>>;
}

/// The built-in tokenizer.
#[derive(Debug, Clone, Copy)]
pub struct Builtin;

impl Tokenize for Builtin {
    fn encode(&mut self, texts: &[String]) -> Option<Vec<Vec<u32>>> {
        let tokenizer = o200k_base();
        Some(texts.iter().map(|text| tokenizer.encode(text)).collect())
    }
}

/// A message, tokenised.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) tokens: Vec<u32>,
    /// Of role and text.
    pub(crate) digest: Digest,
    /// Digests of its parts that are no text, each with the tokens in front of it.
    pub(crate) media: Vec<(usize, Digest)>,
}

/// Messages tokenised before: those used lately, and those used before these.
pub(crate) struct Memory {
    tokenizer: Box<dyn Tokenize>,
    young: HashMap<Digest, Arc<Known>>,
    old: HashMap<Digest, Arc<Known>>,
    young_tokens: usize,
    limit: usize,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("young", &self.young.len())
            .finish_non_exhaustive()
    }
}

impl Memory {
    pub(crate) fn new(tokenizer: Box<dyn Tokenize>) -> Self {
        Self {
            tokenizer,
            young: HashMap::new(),
            old: HashMap::new(),
            young_tokens: 0,
            limit: KEPT_TOKENS,
        }
    }

    /// Each prompt's messages, and each answer's number of tokens, with one question to the tokenizer.
    #[allow(clippy::type_complexity)] // two lists
    pub(crate) fn tokenise(
        &mut self,
        prompts: &[Vec<Message<'_>>],
        answers: Vec<String>,
    ) -> Option<(Vec<Vec<Arc<Known>>>, Vec<u64>)> {
        let keys: Vec<Vec<Digest>> = prompts
            .iter()
            .map(|messages| messages.iter().map(Message::key).collect())
            .collect();
        let mut texts = Vec::new();
        let mut fresh: Vec<(Digest, prompt::Expanded, usize)> = Vec::new();
        // What is looked up is held until the end: what is kept meanwhile may push it out of memory.
        let mut here: HashMap<Digest, Option<Arc<Known>>> = HashMap::new();
        for (message, key) in prompts.iter().flatten().zip(keys.iter().flatten()) {
            if here.contains_key(key) {
                continue;
            }
            let known = self.find(key);
            if known.is_none() {
                let mut expanded = message.expand();
                let first = texts.len();
                texts.append(&mut expanded.texts);
                fresh.push((*key, expanded, first));
            }
            here.insert(*key, known);
        }
        let answers_from = texts.len();
        texts.extend(answers);
        let mut encoded = if texts.is_empty() {
            Vec::new()
        } else {
            self.tokenizer.encode(&texts)?
        };
        let counts = encoded
            .get(answers_from..)?
            .iter()
            .map(|tokens| tokens.len() as u64)
            .collect();
        for (key, expanded, first) in fresh {
            let pieces = encoded.get_mut(first..first + expanded.num_texts)?;
            let known = Arc::new(known(&expanded, pieces));
            self.keep(key, Arc::clone(&known));
            here.insert(key, Some(known));
        }
        let of = |keys: &Vec<Digest>| keys.iter().map(|key| here.get(key).cloned().flatten()).collect();
        let all: Option<Vec<Vec<Arc<Known>>>> = keys.iter().map(of).collect();
        Some((all?, counts))
    }

    fn find(&mut self, key: &Digest) -> Option<Arc<Known>> {
        if let Some(known) = self.young.get(key) {
            return Some(Arc::clone(known));
        }
        let known = self.old.remove(key)?;
        self.keep(*key, Arc::clone(&known));
        Some(known)
    }

    /// Remembers; when there is too much, what was not used for longest goes.
    fn keep(&mut self, key: Digest, known: Arc<Known>) {
        // An entry costs something even if it has no tokens.
        self.young_tokens += known.tokens.len() + 32;
        self.young.insert(key, known);
        if self.young_tokens > self.limit {
            self.old = std::mem::take(&mut self.young);
            self.young_tokens = 0;
        }
    }
}

fn known(expanded: &prompt::Expanded, pieces: &mut [Vec<u32>]) -> Known {
    let mut tokens = Vec::new();
    let mut media = Vec::new();
    for (number, piece) in pieces.iter_mut().enumerate() {
        let here = expanded.media.iter().filter(|(before, _)| *before == number);
        media.extend(here.map(|(_, digest)| (tokens.len(), *digest)));
        tokens.append(piece);
    }
    let behind = expanded.media.iter().filter(|(before, _)| *before >= pieces.len());
    media.extend(behind.map(|(_, digest)| (tokens.len(), *digest)));
    Known {
        tokens,
        digest: expanded.digest,
        media,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Counting(Arc<AtomicUsize>);

    impl Tokenize for Counting {
        fn encode(&mut self, texts: &[String]) -> Option<Vec<Vec<u32>>> {
            self.0.fetch_add(texts.len(), Ordering::Relaxed);
            Builtin.encode(texts)
        }
    }

    #[test]
    fn test_messages_that_come_again_are_tokenised_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut memory = Memory::new(Box::new(Counting(Arc::clone(&asked))));
        let body = br#"{"messages":[{"role":"user","content":"one two"},{"role":"user","content":"three"}]}"#;
        let longer = br#"{"messages":[{"role":"user","content":"one two"},{"role":"user","content":"three"},{"role":"user","content":"four"}]}"#;
        for (body, so_far) in [(body.as_slice(), 2), (body, 2), (longer, 3)] {
            let prompts = [prompt::read(body).expect("a prompt").messages];
            let (known, _) = memory.tokenise(&prompts, Vec::new()).expect("tokens");
            assert_eq!(known[0].len(), prompts[0].len());
            assert_eq!(asked.load(Ordering::Relaxed), so_far);
        }
        // In a memory without room all is tokenised each time, and nothing is missing.
        memory.limit = 1;
        memory.old.clear();
        memory.young.clear();
        for _ in 0..2 {
            let prompts = [prompt::read(longer).expect("a prompt").messages];
            let (known, counts) = memory.tokenise(&prompts, vec!["five six".into()]).expect("tokens");
            assert_eq!((known[0].len(), counts), (3, vec![2]));
        }
    }
}
