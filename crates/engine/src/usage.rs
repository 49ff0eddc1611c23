//! What a response says it used and how long it took, also where it says so in parts (Anthropic: input at the start of a stream, output at its end).

use crate::extract::{self, Extractor, Field, Found};
use crate::reply::Reply;
use crate::server_times::Source;

impl Reply {
    /// Usage so far. In parts: counts only grow, and what a later part leaves out stays as it was.
    pub(crate) fn read_usage(&mut self, ex: &Extractor, json: &[u8], found: &Found) {
        if let Some(usage) = ex.get(Field::Usage, json, found) {
            let usage = String::from_utf8_lossy(usage);
            self.usage = Some(match self.usage.take() {
                Some(before) if ex.usage_in_parts => merged_usage(&before, &usage),
                _ => usage.into_owned(),
            });
        }
        self.usage_in_parts = ex.usage_in_parts;
        let update = |old: &mut Option<u32>, field| {
            let new = ex.get(field, json, found).and_then(extract::count);
            *old = if ex.usage_in_parts { new.max(*old) } else { new.or(*old) };
        };
        update(&mut self.usage_prompt, Field::UsagePrompt);
        update(&mut self.usage_completion, Field::UsageCompletion);
        update(&mut self.usage_reasoning, Field::UsageReasoning);
        update(&mut self.usage_cached, Field::UsageCached);
        update(&mut self.usage_cache_write, Field::UsageCacheWrite);
    }

    /// Input tokens, those read from and written to the cache included.
    pub fn prompt_tokens(&self) -> Option<u32> {
        let apart = [self.usage_cached, self.usage_cache_write];
        let apart = apart.into_iter().flatten().filter(|_| self.usage_in_parts);
        self.usage_prompt.map(|rest| apart.fold(rest, u32::saturating_add))
    }
}

impl Reply {
    /// Times so far; of several events that have them, the last one counts, and the body before the headers.
    pub(crate) fn read_server_times(&mut self, ex: &Extractor, json: &[u8], found: &Found) {
        for part in [
            Field::ServerQueue,
            Field::ServerPrefill,
            Field::ServerFirst,
            Field::ServerDecode,
            Field::ServerTotal,
        ] {
            if let Some(ns) = ex.duration(part, json, found) {
                self.server.set(part, ns, Source::Response);
            }
        }
    }

    /// An object per sequence: of several (`n`) nobody can say which tokens of the response it is about, so all are kept.
    pub(crate) fn read_speculation(&mut self, ex: &Extractor, json: &[u8], found: &Found) {
        if let Some(said) = ex
            .get(Field::Speculation, json, found)
            .filter(|s| !extract::is_nothing(s))
        {
            let all = self.speculation.get_or_insert_default();
            if !all.is_empty() {
                all.push(',');
            }
            all.push_str(&String::from_utf8_lossy(said));
        }
    }
}

/// Two parts of a usage object as one: of numbers the larger, else what came last.
fn merged_usage(before: &str, after: &str) -> String {
    type Object = serde_json::Map<String, serde_json::Value>;
    let (Ok(mut all), Ok(new)) = (
        serde_json::from_str::<Object>(before),
        serde_json::from_str::<Object>(after),
    ) else {
        return after.to_owned();
    };
    for (key, value) in new {
        let is_less =
            matches!((all.get(&key).and_then(serde_json::Value::as_f64), value.as_f64()), (Some(a), Some(b)) if a > b);
        if !is_less && (!value.is_null() || !all.contains_key(&key)) {
            all.insert(key, value);
        }
    }
    serde_json::Value::Object(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_times::ServerTimes;
    use aiperf_records::ABSENT;

    fn after(rules: &str, events: &[&str]) -> Reply {
        let ex = Extractor::new(&serde_json::from_str(rules).expect("pointers")).expect("valid");
        let mut reply = Reply::default();
        for event in events {
            let mut found = Found::default();
            ex.scan(event.as_bytes(), &mut found).expect("JSON");
            reply.read_usage(&ex, event.as_bytes(), &found);
        }
        reply
    }

    #[test]
    fn parts_are_merged_and_cached_input_is_added() {
        let rules = r#"{"usage":["/message/usage","/usage"],"usage_prompt":["/message/usage/input_tokens","/usage/input_tokens"],
            "usage_completion":["/message/usage/output_tokens","/usage/output_tokens"],
            "usage_cached":["/message/usage/cached"],"usage_cache_write":["/message/usage/written"],"usage_in_parts":true}"#;
        let start = r#"{"message":{"usage":{"input_tokens":7,"cached":100,"written":20,"output_tokens":1}}}"#;
        let reply = after(
            rules,
            &[start, "{}", r#"{"usage":{"output_tokens":15,"input_tokens":0}}"#],
        );
        assert_eq!((reply.prompt_tokens(), reply.usage_completion), (Some(127), Some(15)));
        let merged = r#"{"cached":100,"input_tokens":7,"output_tokens":15,"written":20}"#;
        assert_eq!(reply.usage.as_deref(), Some(merged));
    }

    #[test]
    fn a_usage_in_one_part_is_the_last_one_and_holds_its_cached_input() {
        let rules = r#"{"usage":["/usage"],"usage_prompt":["/usage/p"],"usage_cached":["/usage/c"]}"#;
        let reply = after(rules, &[r#"{"usage":{"p":9,"c":4}}"#, r#"{"usage":{"p":8}}"#]);
        assert_eq!((reply.prompt_tokens(), reply.usage_cached), (Some(8), Some(4)));
        assert_eq!(reply.usage.as_deref(), Some(r#"{"p":8}"#));
        assert_eq!(after(rules, &["{}"]).prompt_tokens(), None);
    }

    #[test]
    fn what_is_said_of_speculation_is_kept_of_each_sequence() {
        let rules = r#"{"speculation":["/metrics/speculative_decoding"]}"#;
        let ex = Extractor::new(&serde_json::from_str(rules).expect("pointers")).expect("valid");
        let mut reply = Reply::default();
        let mut say = |event: &str| {
            let mut found = Found::default();
            ex.scan(event.as_bytes(), &mut found).expect("JSON");
            reply.read_speculation(&ex, event.as_bytes(), &found);
            reply.speculation.clone()
        };
        assert_eq!(say(r#"{"metrics":{"speculative_decoding":null}}"#), None);
        assert_eq!(say(r#"{"metrics":{"speculative_decoding":{}}}"#), None);
        let event = r#"{"metrics":{"speculative_decoding":{"num_spec_steps":2}}}"#;
        assert_eq!(say(event).as_deref(), Some(r#"{"num_spec_steps":2}"#));
        assert_eq!(
            say(event).as_deref(),
            Some(r#"{"num_spec_steps":2},{"num_spec_steps":2}"#)
        );
    }

    #[test]
    fn times_have_the_unit_of_their_pointer_and_the_last_event_counts() {
        let rules = r#"{"server_queue":["/timing/wait_ms","/meta/queue_time"],"server_prefill":["/timings/prompt_ms"],
            "server_decode":["/timings/predicted_us"],"server_total":["/meta/e2e"]}"#;
        let ex = Extractor::new(&serde_json::from_str(rules).expect("pointers")).expect("valid");
        let mut reply = Reply::default();
        let events = [
            r#"{"timings":{"prompt_ms":1.5,"predicted_us":7},"meta":{"queue_time":0.25,"e2e":2}}"#,
            r#"{"timings":{"prompt_ms":2.5},"meta":{"queue_time":null}}"#,
            r#"{"timings":{"prompt_ms":-1},"meta":{"e2e":"x"}}"#,
            "{}",
        ];
        for event in events {
            let mut found = Found::default();
            ex.scan(event.as_bytes(), &mut found).expect("JSON");
            reply.read_server_times(&ex, event.as_bytes(), &found);
        }
        let expected = ServerTimes {
            queue: 250_000_000,
            prefill: 2_500_000,
            first: ABSENT,
            decode: 7_000,
            total: 2_000_000_000,
            source: Source::Response,
        };
        assert_eq!(reply.server, expected);
    }
}
