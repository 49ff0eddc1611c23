//! What a server says of a single request: how long it waited, computed the prompt, made tokens. In the response or its headers.

use aiperf_records::ABSENT;

use crate::field::Field;

/// Where a server's times came from: the column `server_source`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// It said nothing.
    #[default]
    None,
    /// Fields of the response.
    Response,
    /// Headers of the response.
    Headers,
}

/// Durations in ns, [`ABSENT`] where the server did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named as the columns they become
pub struct ServerTimes {
    pub queue: i64,
    pub prefill: i64,
    pub first: i64,
    pub decode: i64,
    pub total: i64,
    pub source: Source,
}

impl Default for ServerTimes {
    fn default() -> Self {
        Self {
            queue: ABSENT,
            prefill: ABSENT,
            first: ABSENT,
            decode: ABSENT,
            total: ABSENT,
            source: Source::None,
        }
    }
}

/// Nanoseconds in the unit of a pointer: `…_ms` is in milliseconds, `…_us` in microseconds, anything else in seconds.
pub(crate) fn unit_ns(pointer: &str) -> f64 {
    if pointer.ends_with("_ms") {
        1e6
    } else if pointer.ends_with("_us") {
        1e3
    } else {
        1e9
    }
}

/// None for what is no duration: negative (llama.cpp writes −1 for "never"), infinite, or longer than a century.
pub(crate) fn in_ns(value: f64, unit_ns: f64) -> Option<i64> {
    const CENTURY_NS: f64 = 3.2e18;
    let ns = value * unit_ns;
    (ns.is_finite() && (0.0..CENTURY_NS).contains(&ns)).then_some(ns.round() as i64)
}

impl ServerTimes {
    pub(crate) fn set(&mut self, part: Field, ns: i64, source: Source) {
        match part {
            Field::ServerQueue => self.queue = ns,
            Field::ServerPrefill => self.prefill = ns,
            Field::ServerFirst => self.first = ns,
            Field::ServerDecode => self.decode = ns,
            Field::ServerTotal => self.total = ns,
            _ => return,
        }
        self.source = source;
    }

    /// How long tokens were made: as told, else what the time to the first token leaves of all of it.
    pub(crate) fn decode(&self) -> i64 {
        let is_known = self.decode == ABSENT && self.first != ABSENT && self.total >= self.first;
        if is_known { self.total - self.first } else { self.decode }
    }

    /// TGI's headers, in ms; `name` in any case.
    pub(crate) fn note(&mut self, name: &str, value: &[u8]) {
        const HEADERS: [(&str, Field); 3] = [
            ("x-queue-time", Field::ServerQueue),
            ("x-prefill-time", Field::ServerPrefill),
            ("x-total-time", Field::ServerTotal),
        ];
        for (header, part) in HEADERS {
            if name.eq_ignore_ascii_case(header) {
                let text = std::str::from_utf8(value).unwrap_or_default().trim();
                if let Some(ns) = text.parse().ok().and_then(|ms: f64| in_ns(ms, 1e6)) {
                    self.set(part, ns, Source::Headers);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_is_what_the_first_token_leaves_of_the_whole() {
        let told = |first, decode, total| {
            let times = ServerTimes {
                first,
                decode,
                total,
                ..ServerTimes::default()
            };
            times.decode()
        };
        assert_eq!(told(30, ABSENT, 100), 70);
        assert_eq!(told(30, 50, 100), 50);
        assert_eq!(told(30, ABSENT, 20), ABSENT);
        assert_eq!(told(30, ABSENT, ABSENT), ABSENT);
        assert_eq!(told(ABSENT, ABSENT, 100), ABSENT);
    }

    #[test]
    fn headers_are_in_milliseconds_and_nonsense_is_absent() {
        let mut times = ServerTimes::default();
        times.note("X-Queue-Time", b" 12 ");
        times.note("x-total-time", b"soon");
        times.note("x-prefill-time", b"-3");
        let expected = ServerTimes {
            queue: 12_000_000,
            source: Source::Headers,
            ..ServerTimes::default()
        };
        assert_eq!(times, expected);
    }
}
