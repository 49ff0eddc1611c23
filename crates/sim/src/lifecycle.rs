//! What the server says of each request's life: times in the response, as several servers write them, and OpenTelemetry spans.
//!
//! All of it comes from the moments that the ledger has too: received, admitted, first and last token made.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Times in responses, in the shape of a server's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timings {
    /// None.
    #[default]
    Off,
    /// `timings` of llama.cpp: prompt and generation, ms; no queue.
    LlamaCpp,
    /// `nvext.timing` of Dynamo, ms; only where the request asks for it (`nvext.extra_fields`). Its frontend sees no engine: the wait is its
    /// router's, and the time of prefill holds the engine's queue.
    Dynamo,
    /// `meta_info` of `SGLang`, s.
    Sglang,
    /// `metrics` of vLLM with `--enable-per-request-metrics`, ms; its time to the first token counts from when the request was scheduled.
    Vllm,
    /// Headers of TGI, ms, with whole responses.
    Tgi,
}

/// A request's moments, ns since the server's anchor; `None` where it did not come to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) received: u64,
    pub(crate) admitted: Option<u64>,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
}

impl Moments {
    pub(crate) fn queue(&self) -> u64 {
        self.admitted.unwrap_or(self.received).saturating_sub(self.received)
    }

    pub(crate) fn prefill(&self) -> u64 {
        let from = self.admitted.unwrap_or(self.received);
        self.first.unwrap_or(from).saturating_sub(from)
    }

    pub(crate) fn decode(&self) -> u64 {
        let (first, last) = (self.first.unwrap_or_default(), self.last.unwrap_or_default());
        last.saturating_sub(first)
    }

    fn total(&self) -> u64 {
        self.queue() + self.prefill() + self.decode()
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// The JSON members to add to the last event of a response, with a comma in front; empty where nothing is said there.
///
/// `speculation`: what `metrics` says of a draft model.
pub(crate) fn members(
    shape: Timings,
    asked: bool,
    m: &Moments,
    (prompt, cached, made): (u32, u32, u32),
    speculation: Option<&str>,
) -> String {
    let mut told = times(shape, asked, m, (prompt, cached, made));
    if let Some(said) = speculation {
        let before = if shape == Timings::Vllm {
            told.pop(); // its `metrics` goes on
            ","
        } else {
            ",\"metrics\":{"
        };
        let _ = write!(told, "{before}\"speculative_decoding\":{said}}}"); // writing to a String cannot fail
    }
    told
}

fn times(shape: Timings, asked: bool, m: &Moments, (prompt, cached, made): (u32, u32, u32)) -> String {
    let (queue, prefill, decode, total) = (m.queue(), m.prefill(), m.decode(), m.total());
    match shape {
        Timings::LlamaCpp => {
            let computed = prompt.saturating_sub(cached);
            format!(
                ",\"timings\":{{\"cache_n\":{cached},\"prompt_n\":{computed},\"prompt_ms\":{},\"predicted_n\":{made},\"predicted_ms\":{}}}",
                ms(prefill),
                ms(decode)
            )
        }
        Timings::Dynamo if asked => format!(
            ",\"nvext\":{{\"timing\":{{\"prefill_wait_time_ms\":0,\"prefill_time_ms\":{0},\"ttft_ms\":{0},\"total_time_ms\":{1}}}}}",
            ms(queue + prefill),
            ms(total)
        ),
        Timings::Sglang => format!(
            ",\"meta_info\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{made},\"cached_tokens\":{cached},\"queue_time\":{},\"prefill_time\":{},\"decode_time\":{},\"e2e_latency\":{}}}",
            ms(queue) / 1e3,
            ms(prefill) / 1e3,
            ms(decode) / 1e3,
            ms(total) / 1e3
        ),
        Timings::Vllm => format!(
            ",\"metrics\":{{\"time_to_first_token_ms\":{},\"generation_time_ms\":{},\"queue_time_ms\":{},\"mean_itl_ms\":null}}",
            ms(prefill),
            ms(decode),
            ms(queue)
        ),
        _ => String::new(),
    }
}

/// Lines for the head of a whole response; empty where nothing is said there.
pub(crate) fn header_lines(shape: Timings, moments: &Moments) -> String {
    if shape != Timings::Tgi {
        return String::new();
    }
    format!(
        "x-queue-time: {}\r\nx-inference-time: {}\r\nx-total-time: {}\r\n",
        ms(moments.queue()),
        ms(moments.prefill() + moments.decode()),
        ms(moments.total())
    )
}

/// A W3C `traceparent`: (trace id, id of the client's span), both as hex. `None` unless it says that the request is sampled.
pub(crate) fn parse_traceparent(text: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = text.trim().split('-').collect();
    let [_, trace, span, flags] = parts[..] else {
        return None;
    };
    let is_hex = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit());
    let sampled = u8::from_str_radix(flags, 16).is_ok_and(|f| f & 1 == 1);
    (is_hex(trace, 32) && is_hex(span, 16) && sampled).then(|| (trace.to_owned(), span.to_owned()))
}

/// A span of one request as vLLM makes it, in OTLP's JSON: `llm_request` with `gen_ai.latency.*`, s, from its arrival to its end.
///
/// `epoch`: ns since the epoch of a moment. `number` makes the span's id.
pub(crate) fn span_json(
    (trace, parent): (&str, &str),
    moments: &Moments,
    epoch: impl Fn(u64) -> u64,
    (prompt, made): (u32, u32),
    number: u64,
) -> String {
    let end = moments
        .last
        .or(moments.first)
        .or(moments.admitted)
        .unwrap_or(moments.received);
    let mut attributes = String::new();
    let mut add = |key: &str, value: String| {
        let comma = if attributes.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(attributes, "{comma}{{\"key\":\"{key}\",\"value\":{value}}}");
    };
    let double = |ns: u64| format!("{{\"doubleValue\":{}}}", ns as f64 / 1e9);
    let int = |n: u32| format!("{{\"intValue\":\"{n}\"}}");
    add("gen_ai.usage.prompt_tokens", int(prompt));
    add("gen_ai.usage.completion_tokens", int(made));
    add("gen_ai.latency.time_in_queue", double(moments.queue()));
    if let Some(first) = moments.first {
        add(
            "gen_ai.latency.time_to_first_token",
            double(first.saturating_sub(moments.received)),
        );
        add("gen_ai.latency.time_in_model_prefill", double(moments.prefill()));
        add("gen_ai.latency.time_in_model_decode", double(moments.decode()));
        add(
            "gen_ai.latency.time_in_model_inference",
            double(moments.prefill() + moments.decode()),
        );
        add("gen_ai.latency.e2e", double(moments.total()));
    }
    format!(
        "{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[{{\"key\":\"service.name\",\"value\":{{\"stringValue\":\"aiperf-sim\"}}}}]}},\"scopeSpans\":[{{\"scope\":{{\"name\":\"aiperf.sim\"}},\"spans\":[{{\"traceId\":\"{trace}\",\"spanId\":\"{number:016x}\",\"parentSpanId\":\"{parent}\",\"name\":\"llm_request\",\"kind\":2,\"startTimeUnixNano\":\"{}\",\"endTimeUnixNano\":\"{}\",\"attributes\":[{attributes}]}}]}}]}}]}}",
        epoch(moments.received),
        epoch(end)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: Moments = Moments {
        received: 1_000_000,
        admitted: Some(3_000_000),
        first: Some(8_000_000),
        last: Some(20_000_000),
    };

    #[test]
    fn every_shape_is_json_and_says_the_same() {
        let of = |shape| -> serde_json::Value {
            let text = members(shape, true, &M, (10, 4, 3), None);
            serde_json::from_str(&format!("{{\"a\":1{text}}}")).expect("JSON")
        };
        assert_eq!(of(Timings::LlamaCpp)["timings"]["prompt_ms"], 5.0);
        assert_eq!(of(Timings::LlamaCpp)["timings"]["prompt_n"], 6);
        assert_eq!(of(Timings::Dynamo)["nvext"]["timing"]["prefill_time_ms"], 7.0);
        assert_eq!(of(Timings::Sglang)["meta_info"]["e2e_latency"], 0.019);
        assert_eq!(of(Timings::Vllm)["metrics"]["time_to_first_token_ms"], 5.0);
        assert_eq!(of(Timings::Vllm)["metrics"]["queue_time_ms"], 2.0);
        assert_eq!(members(Timings::Dynamo, false, &M, (10, 4, 3), None), "");
        for shape in [Timings::Off, Timings::Vllm, Timings::Sglang] {
            let text = members(shape, true, &M, (10, 4, 3), Some("{\"num_spec_steps\":1}"));
            let json: serde_json::Value = serde_json::from_str(&format!("{{\"a\":1{text}}}")).expect("JSON");
            assert_eq!(json["metrics"]["speculative_decoding"]["num_spec_steps"], 1);
        }
        assert!(header_lines(Timings::Tgi, &M).contains("x-queue-time: 2\r\n"));
        assert_eq!(header_lines(Timings::Dynamo, &M), "");
    }

    #[test]
    fn a_span_has_the_trace_of_its_request() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace, parent) = parse_traceparent(given).expect("sampled");
        let text = span_json((&trace, &parent), &M, |ns| ns + 7, (10, 3), 5);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(
            (&span["traceId"], &span["startTimeUnixNano"]),
            (&trace.into(), &"1000007".into())
        );
        assert_eq!(span["attributes"][2]["value"]["doubleValue"], 0.002);
        for bad in [
            "",
            "00-0af7-b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ] {
            assert_eq!(parse_traceparent(bad), None);
        }
    }
}
