//! `/tokenize` and `/detokenize`.

use serde_json::{Value, json};

use crate::options::SimOptions;
use crate::request::Ask;
use crate::tokens;

/// vLLM's `{model, prompt | messages}` and llama.cpp's `{content}`.
pub(crate) fn tokenize(options: &SimOptions, max_model_len: u32, body: &[u8]) -> Result<Value, String> {
    let ask = match Ask::parse(body) {
        Ok(ask) if ask.has_prompt() => ask,
        Ok(_) => return Err("the body has none of `prompt`, `messages`, `content`".into()),
        Err(reason) => return Err(format!("invalid JSON body: {reason}")),
    };
    let ids = ask.prompt().encode(options.template_tokens);
    let tokenizer = tokens::tokenizer();
    if ask.is_llama {
        if !ask.with_pieces {
            return Ok(json!({"tokens": ids}));
        }
        let pieces: Vec<_> = ids
            .iter()
            .map(|&id| {
                let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                match std::str::from_utf8(bytes) {
                    Ok(text) => json!({"id": id, "piece": text}),
                    Err(_) => json!({"id": id, "piece": bytes}),
                }
            })
            .collect();
        return Ok(json!({"tokens": pieces}));
    }
    let texts: Option<Vec<String>> = ask.return_token_strs.then(|| {
        ids.iter()
            .map(|&id| match tokenizer.token_bytes(id) {
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                None => "<|template|>".into(),
            })
            .collect()
    });
    Ok(json!({
        "count": ids.len(), "max_model_len": max_model_len, "tokens": ids, "token_strs": texts,
    }))
}

/// Text of token ids, under both names.
pub(crate) fn detokenize(body: &[u8]) -> Result<Value, String> {
    let ids: Option<Vec<u32>> = Ask::parse(body)
        .ok()
        .and_then(|ask| ask.tokens)
        .and_then(|tokens| sonic_rs::from_str(tokens.as_raw_str()).ok());
    let Some(ids) = ids else {
        return Err("the body has no field `tokens`, a list of ids".into());
    };
    let Ok(bytes) = tokens::tokenizer().decode(&ids) else {
        return Err("an id is beyond the vocabulary".into());
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(json!({"prompt": text, "content": text}))
}
