//! The tokens by id and by bytes.

use fnv::FnvHashMap;

/// OpenAI's `o200k_base.tiktoken` (MIT licence): its tokens by id, each as a length in a byte and its bytes; zstd, level 19.
static PACKED: &[u8] = include_bytes!("o200k.zst");

/// Tokens; a smaller id was learnt earlier, so it is the rank of its merge.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokens: Vec<&'static [u8]>,
    ids: FnvHashMap<&'static [u8], u32>,
}

impl Vocabulary {
    pub(crate) fn load() -> Self {
        // Kept for good: there is one vocabulary, for as long as the program runs.
        let mut rest: &'static [u8] = zstd::stream::decode_all(PACKED).expect("the file is zstd's").leak();
        let mut tokens = Vec::new();
        while let Some((len, more)) = rest.split_first() {
            let (bytes, after) = more.split_at(usize::from(*len));
            tokens.push(bytes);
            rest = after;
        }
        let ids = tokens.iter().zip(0..).map(|(bytes, id)| (*bytes, id)).collect();
        Self { tokens, ids }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    #[inline]
    pub(crate) fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.ids.get(bytes).copied()
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&'static [u8]> {
        self.tokens.get(id as usize).copied()
    }
}
