//! What a JSON pointer is for.

/// What a pointer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// Visible output.
    Text,
    /// Hidden thinking.
    Reasoning,
    /// Tool calls.
    Tool,
    /// Why the output ended.
    Finish,
    /// An error inside a reply.
    Error,
    /// The usage object.
    Usage,
    /// Input tokens as the server counts them.
    UsagePrompt,
    /// Output tokens, reasoning included.
    UsageCompletion,
    /// Reasoning tokens.
    UsageReasoning,
    /// Input tokens read from the cache.
    UsageCached,
    /// Input tokens written to the cache.
    UsageCacheWrite,
    /// Which of several choices an event is part of; the first is 0.
    Choice,
    /// How long the server says that it let the request wait.
    ServerQueue,
    /// How long it says that it computed the prompt.
    ServerPrefill,
    /// How long it says that it took to the first token, where it does not tell the wait and the prompt apart.
    ServerFirst,
    /// How long it says that it made tokens.
    ServerDecode,
    /// How long it says that all of it took.
    ServerTotal,
    /// What it says of the request's speculative decoding: an object.
    Speculation,
}

/// Number of fields.
pub(crate) const NUM_FIELDS: usize = 18;
