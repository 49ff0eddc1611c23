//! Spans in OTLP's JSON (`ExportTraceServiceRequest`), as columns.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>: names in camel case, ids in hex, 64-bit numbers as text. Names in snake
//! case and plain numbers, which some tools write, are read too.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The value of an attribute; lists and maps are left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `stringValue`
    Text(String),
    /// `boolValue`
    Bool(bool),
    /// `intValue`
    Int(i64),
    /// `doubleValue`
    Double(f64),
}

/// Spans; all but the attributes have an element for each.
#[derive(Debug, Default)]
pub struct Spans {
    /// As written.
    pub traces: Vec<String>,
    /// As written, "" if there is none.
    pub parents: Vec<String>,
    /// What the span is of.
    pub names: Vec<String>,
    /// ns since the epoch
    pub starts: Vec<i64>,
    /// ns since the epoch
    pub ends: Vec<i64>,
    /// (span, index of the key, value) in the order of the text.
    pub attributes: Vec<(usize, usize, Value)>,
    /// Keys of attributes, each once.
    pub keys: Vec<String>,
}

/// All spans of a request; the error says what is wrong with it. `wanted`: keys of the attributes to keep, else all.
pub fn parse<S: BuildHasher>(text: &[u8], wanted: Option<&HashSet<String, S>>) -> Result<Spans, String> {
    let export: Export<'_> = sonic_rs::from_slice(text).map_err(|e| first_line(&e.to_string()))?;
    let mut out = Spans::default();
    let mut known: HashMap<String, usize> = HashMap::new();
    let scopes = export.resources.into_iter().flat_map(|r| r.scopes.unwrap_or_default());
    for span in scopes.flat_map(|s| s.spans.unwrap_or_default()) {
        let row = out.traces.len();
        out.traces.push(text_of(span.trace));
        out.parents.push(text_of(span.parent));
        out.names.push(text_of(span.name));
        out.starts.push(span.start.map_or(0, |n| n.0));
        out.ends.push(span.end.map_or(0, |n| n.0));
        for attribute in span.attributes.unwrap_or_default() {
            if wanted.is_some_and(|keys| !keys.contains(attribute.key.0.as_ref())) {
                continue;
            }
            let Some(value) = attribute.value.and_then(AnyValue::simple) else {
                continue;
            };
            let key = known.get(attribute.key.0.as_ref()).copied().unwrap_or_else(|| {
                let key = attribute.key.0.into_owned();
                out.keys.push(key.clone());
                known.insert(key, out.keys.len() - 1);
                out.keys.len() - 1
            });
            out.attributes.push((row, key, value));
        }
    }
    Ok(out)
}

/// The parser's message without the piece of text it shows.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn text_of(text: Option<Text<'_>>) -> String {
    text.map_or_else(String::new, |t| t.0.into_owned())
}

struct Export<'a> {
    resources: Vec<Resource<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Export<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Export<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `resourceSpans`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut resources, mut others) = (None, false);
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    if matches!(key.as_ref(), "resourceSpans" | "resource_spans") {
                        resources = Some(map.next_value::<Option<Vec<Resource<'de>>>>()?.unwrap_or_default());
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        others = true;
                    }
                }
                if resources.is_none() && others {
                    return Err(A::Error::custom("no `resourceSpans`"));
                }
                Ok(Export {
                    resources: resources.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default, rename = "scopeSpans", alias = "scope_spans")]
    scopes: Option<Vec<Scope<'a>>>,
}

#[derive(Deserialize)]
struct Scope<'a> {
    #[serde(borrow, default)]
    spans: Option<Vec<Span<'a>>>,
}

#[derive(Deserialize)]
struct Span<'a> {
    #[serde(borrow, default, rename = "traceId", alias = "trace_id")]
    trace: Option<Text<'a>>,
    #[serde(borrow, default, rename = "parentSpanId", alias = "parent_span_id")]
    parent: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(default, rename = "startTimeUnixNano", alias = "start_time_unix_nano")]
    start: Option<Int>,
    #[serde(default, rename = "endTimeUnixNano", alias = "end_time_unix_nano")]
    end: Option<Int>,
    #[serde(borrow, default)]
    attributes: Option<Vec<Attribute<'a>>>,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default)]
    value: Option<AnyValue<'a>>,
}

#[derive(Deserialize)]
struct AnyValue<'a> {
    #[serde(borrow, default, rename = "stringValue", alias = "string_value")]
    text: Option<Text<'a>>,
    #[serde(default, rename = "boolValue", alias = "bool_value")]
    bool: Option<bool>,
    #[serde(default, rename = "intValue", alias = "int_value")]
    int: Option<Int>,
    #[serde(default, rename = "doubleValue", alias = "double_value")]
    double: Option<Double>,
}

impl AnyValue<'_> {
    fn simple(self) -> Option<Value> {
        let text = self.text.map(|t| Value::Text(t.0.into_owned()));
        text.or(self.bool.map(Value::Bool))
            .or(self.int.map(|n| Value::Int(n.0)))
            .or(self.double.map(|n| Value::Double(n.0)))
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A whole number, also as text; 0 if that is empty.
struct Int(i64);

/// A number, also as text.
struct Double(f64);

macro_rules! number_or_text {
    ($name:ident, $inner:ty, $from_text:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Number;
                impl Visitor<'_> for Number {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number")
                    }

                    fn visit_u64<E: Error>(self, n: u64) -> Result<$name, E> {
                        Ok($name(n as $inner))
                    }

                    fn visit_i64<E: Error>(self, n: i64) -> Result<$name, E> {
                        Ok($name(n as $inner))
                    }

                    fn visit_f64<E: Error>(self, n: f64) -> Result<$name, E> {
                        Ok($name(n as $inner))
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        let parsed: Option<$inner> = $from_text(text);
                        parsed
                            .map($name)
                            .ok_or_else(|| E::custom(format_args!("`{text}` is not a number")))
                    }
                }
                deserializer.deserialize_any(Number)
            }
        }
    };
}

number_or_text!(Int, i64, |text: &str| {
    if text.is_empty() { Some(0) } else { text.parse().ok() }
});
number_or_text!(Double, f64, |text: &str| text.parse().ok());

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Option<&HashSet<String>> = None;
    const SPAN: &str = r#"{"traceId":"0a","parentSpanId":"b","name":"llm\u0021","startTimeUnixNano":"1700000000000000000",
        "endTimeUnixNano":1700000000000000007,"attributes":[{"key":"q","value":{"doubleValue":0.5}},{"key":"n","value":{"intValue":"7"}},
        {"key":"l","value":{"arrayValue":{"values":[]}}},{"key":"t","value":{"stringValue":"5ms"}},{"key":"b","value":{"boolValue":true}},
        {"key":"i","value":{"doubleValue":"Infinity"}},{"key":"w","value":{"doubleValue":2}},{"key":"none"}],"kind":2}"#;

    fn request(span: &str) -> String {
        format!(
            r#"{{"resourceSpans":[{{"resource":{{}},"scopeSpans":[{{"scope":{{"name":"x"}},"spans":[{span},{{}}]}}]}}]}}"#
        )
    }

    #[test]
    fn spans_are_columns() {
        let spans = parse(request(SPAN).as_bytes(), ALL).expect("a request");
        assert_eq!(
            (spans.traces, spans.parents),
            (vec!["0a".into(), String::new()], vec!["b".into(), String::new()])
        );
        assert_eq!(spans.names, ["llm!", ""]);
        assert_eq!(spans.starts, [1_700_000_000_000_000_000, 0]);
        assert_eq!(spans.ends, [1_700_000_000_000_000_007, 0]);
        assert_eq!(spans.keys, ["q", "n", "t", "b", "i", "w"]);
        let told = |key: usize, value| (0, key, value);
        assert_eq!(
            spans.attributes,
            [
                told(0, Value::Double(0.5)),
                told(1, Value::Int(7)),
                told(2, Value::Text("5ms".into())),
                told(3, Value::Bool(true)),
                told(4, Value::Double(f64::INFINITY)),
                told(5, Value::Double(2.0)),
            ]
        );
    }

    #[test]
    fn only_wanted_attributes_are_kept() {
        let wanted = HashSet::from(["n".to_owned()]);
        let found = parse(request(SPAN).as_bytes(), Some(&wanted)).expect("a request");
        assert_eq!(found.attributes, [(0, 0, Value::Int(7))]);
        assert_eq!(found.keys, ["n"]);
    }

    #[test]
    fn other_spellings_and_nothing_are_read() {
        let snake = r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"0a","start_time_unix_nano":5}]}]}]}"#;
        let found = parse(snake.as_bytes(), ALL).expect("a request");
        assert_eq!((found.traces, found.starts), (vec!["0a".to_owned()], vec![5]));
        for empty in ["{}", r#"{"resourceSpans":null}"#, r#"{"resourceSpans":[{}],"x":[1]}"#] {
            assert!(parse(empty.as_bytes(), ALL).expect("a request").traces.is_empty());
        }
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        for bad in [
            r#"{"spans":[]}"#,
            "[]",
            "5",
            "",
            "{",
            r#"{"resourceSpans":7}"#,
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":5}]}]}]}"#,
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"soon"}]}]}]}"#,
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":{}}]}]}]}]}"#,
        ] {
            let error = parse(bad.as_bytes(), ALL).expect_err(bad);
            assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        }
        assert!(
            parse(br#"{"spans":[]}"#, ALL)
                .expect_err("no spans")
                .contains("no `resourceSpans`")
        );
    }
}
