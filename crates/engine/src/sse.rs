//! Incremental event framing: server-sent events (WHATWG HTML §9.2) and newline-delimited JSON.
//!
//! Bytes come as the socket gives them. An event that lies whole in one read is handed on without a copy; the rest of a
//! read is carried over and scanned once, however many reads a line takes.

use memchr::{memchr, memchr2};

/// One event. `data` is its data lines joined by `\n`; `bytes`: from its first byte through the first
/// byte of the blank line that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's name; empty for the default.
    pub name: &'a [u8],
    /// Its payload.
    pub data: &'a [u8],
    /// Bytes from its first to its last, of the framed body.
    pub bytes: u32,
    /// Did the blank line come that ends it? Without it the body may have been cut within the event.
    pub is_ended: bool,
}

/// Byte order mark: some frameworks put one in front of what they write; it is not part of the first line.
const BOM: [u8; 3] = *b"\xEF\xBB\xBF";

/// Are these the first bytes of server-sent events? None: too few to say. Content types are not believed in either direction:
/// gateways send streams as `application/octet-stream`, and error objects as `text/event-stream`.
pub fn begins_like_events(start: &[u8]) -> Option<bool> {
    let text = if BOM.starts_with(start) {
        &[]
    } else {
        start.strip_prefix(&BOM).unwrap_or(start)
    };
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return None;
    }
    let fields: [&[u8]; 5] = [b"data", b"event", b"id", b"retry", b""];
    let mut is_open = false;
    for field in fields {
        match text.strip_prefix(field) {
            Some([b':' | b'\n' | b'\r', ..]) if !field.is_empty() => return Some(true),
            Some([b':', ..]) => return Some(true),
            Some([]) => is_open = true,
            None => is_open |= field.starts_with(text),
            Some(_) => {}
        }
    }
    if is_open { None } else { Some(false) }
}

/// Is the first line a field of another name, which readers of a stream ignore (as padding that some gateways send)? None: it has not
/// ended.
pub fn begins_with_field(start: &[u8]) -> Option<bool> {
    let text = start.strip_prefix(&BOM).unwrap_or(start).trim_ascii_start();
    let is_of_name = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let name = text.iter().take_while(is_of_name).count();
    match text.get(name) {
        Some(b':' | b'\r' | b'\n') => Some(name > 0),
        Some(_) => Some(false),
        None => None,
    }
}

/// Cuts a byte stream into events.
#[derive(Debug, Default)]
pub struct Framer {
    ndjson: bool,
    /// Bytes of an unfinished event.
    carry: Vec<u8>,
    /// Carried bytes already known to hold no end of line.
    scanned: usize,
    /// Joined data of an event with more than one data line.
    joined: Vec<u8>,
    name: Vec<u8>,
    has_data: bool,
    /// Bytes of the current event that are already out of `carry`.
    taken: u32,
    skip_lf: bool,
    /// Bytes of the byte order mark seen; all of them: the start is behind us.
    bom: usize,
    /// Longest event, bytes; 0: no limit.
    max_event: usize,
    is_too_long: bool,
    is_finishing: bool,
}

impl Framer {
    /// Start over, keeping the buffers.
    pub fn reset(&mut self, ndjson: bool, max_event: usize) {
        self.ndjson = ndjson;
        self.max_event = max_event;
        self.carry.clear();
        self.joined.clear();
        self.name.clear();
        // Room for one long event is not kept for all that follow.
        self.carry.shrink_to(1 << 16);
        self.joined.shrink_to(1 << 16);
        (self.scanned, self.has_data, self.taken, self.skip_lf) = (0, false, 0, false);
        (self.bom, self.is_too_long, self.is_finishing) = (0, false, false);
    }

    /// Did the framer stop because an event is longer than the limit?
    pub fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// Feed one read; `on_event` is called for each event that ends in it. Stops early if it returns false, or if an event
    /// that has not ended is over the limit.
    pub fn feed(&mut self, data: &[u8], on_event: &mut impl FnMut(Event<'_>) -> bool) -> bool {
        let data = if self.bom < BOM.len() {
            self.after_bom(data)
        } else {
            data
        };
        let go_on = self.cut(data, on_event);
        if self.max_event > 0 && self.carry.len() + self.joined.len() > self.max_event {
            self.is_too_long = true;
            return false;
        }
        go_on
    }

    fn after_bom<'d>(&mut self, mut data: &'d [u8]) -> &'d [u8] {
        while self.bom < BOM.len() && !data.is_empty() {
            if data[0] == BOM[self.bom] {
                self.bom += 1;
                data = &data[1..];
            } else {
                // It only began like one.
                self.carry.extend_from_slice(&BOM[..self.bom]);
                self.scanned = self.carry.len();
                self.bom = BOM.len();
            }
        }
        data
    }

    fn cut(&mut self, mut data: &[u8], on_event: &mut impl FnMut(Event<'_>) -> bool) -> bool {
        data = self.after_cr(data);
        if !self.carry.is_empty() {
            let mut whole = std::mem::take(&mut self.carry);
            // Only up to the first line end, so that the rest needs no copy.
            let cut = memchr2(b'\n', b'\r', data).map_or(data.len(), |i| i + 1);
            whole.extend_from_slice(&data[..cut]);
            data = &data[cut..];
            let from = self.scanned;
            let rest = self.lines(&whole, from, on_event);
            match rest {
                None => return false,
                Some(kept) if kept < whole.len() => {
                    whole.drain(..kept);
                    self.scanned = whole.len();
                    self.carry = whole;
                }
                Some(_) => {
                    whole.clear();
                    self.carry = whole;
                    self.scanned = 0;
                }
            }
            data = self.after_cr(data);
            if !self.carry.is_empty() {
                self.carry.extend_from_slice(data);
                self.scanned = self.carry.len();
                return true;
            }
        }
        match self.lines(data, 0, on_event) {
            None => false,
            Some(kept) => {
                self.carry.extend_from_slice(&data[kept..]);
                self.scanned = self.carry.len();
                true
            }
        }
    }

    /// Drop the LF of a CRLF that was cut in two; it counts to an event that goes on.
    fn after_cr<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        if data.is_empty() || !std::mem::take(&mut self.skip_lf) || data[0] != b'\n' {
            return data;
        }
        self.taken += u32::from(self.taken > 0);
        &data[1..]
    }

    /// The end of the body: an NDJSON line needs no newline at the end. An SSE event without its blank line is handed on as one
    /// that has not ended; browsers drop it, but servers forget the blank line after `[DONE]`.
    pub fn finish(&mut self, on_event: &mut impl FnMut(Event<'_>) -> bool) -> bool {
        let mut rest = std::mem::take(&mut self.carry);
        if self.ndjson {
            return rest.is_empty() || dispatch_line(&rest, on_event);
        }
        if rest.is_empty() && !self.has_data {
            return true;
        }
        self.skip_lf = false;
        self.is_finishing = true;
        let missing: &[u8] = if rest.is_empty() { b"\n" } else { b"\n\n" };
        rest.extend_from_slice(missing);
        self.lines(&rest, 0, on_event).is_some()
    }

    /// Is there a part of an event that never ended?
    pub fn has_rest(&self) -> bool {
        !self.carry.is_empty() || self.has_data
    }

    /// Handle all complete lines of `buf`; the end of the last one, or None to stop.
    fn lines(&mut self, buf: &[u8], scanned: usize, on_event: &mut impl FnMut(Event<'_>) -> bool) -> Option<usize> {
        let mut at = 0;
        let mut scan = scanned;
        // The pending single data line of the current event, as a range of `buf`; joined if there are more.
        let mut single: Option<(usize, usize)> = None;
        let mut event_start = 0;
        loop {
            // Every other line is the blank one behind an event: no search for it.
            let found = match buf.get(scan) {
                Some(b'\n' | b'\r') => Some(0),
                _ => memchr2(b'\n', b'\r', &buf[scan..]),
            };
            let Some(i) = found else { break };
            let end = scan + i;
            let line = &buf[at..end];
            let mut next = end + 1;
            if buf[end] == b'\r' {
                if next < buf.len() {
                    next += usize::from(buf[next] == b'\n');
                } else {
                    self.skip_lf = true;
                }
            }
            if self.ndjson {
                if !dispatch_line(line, on_event) {
                    return None;
                }
            } else if line.is_empty() {
                let bytes = self.taken + (end + 1 - event_start) as u32;
                self.taken = 0;
                event_start = next;
                let data = match single.take() {
                    Some((from, to)) => Some(&buf[from..to]),
                    None if self.has_data => Some(&self.joined[..]),
                    None => None,
                };
                let is_ended = !self.is_finishing;
                let go_on = data.is_none_or(|data| {
                    on_event(Event {
                        name: &self.name,
                        data,
                        bytes: if is_ended {
                            bytes
                        } else {
                            bytes - (end + 1).min(2) as u32
                        },
                        is_ended,
                    })
                });
                self.has_data = false;
                self.joined.clear();
                self.name.clear();
                if !go_on {
                    return None;
                }
            } else if let Some(value) = line.strip_prefix(b"data:") {
                let value_from = end - value.len() + usize::from(value.first() == Some(&b' '));
                if !self.has_data && single.is_none() {
                    single = Some((value_from, end));
                } else {
                    if let Some((from, to)) = single.take() {
                        self.joined.extend_from_slice(&buf[from..to]);
                    }
                    self.has_data = true;
                    self.joined.push(b'\n');
                    self.joined.extend_from_slice(&buf[value_from..end]);
                }
            } else if let Some(value) = line.strip_prefix(b"event:") {
                self.name.clear();
                self.name.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            } else if memchr(b':', line).is_none() && line == b"data" && !self.has_data && single.is_none() {
                single = Some((end, end));
            }
            at = next;
            scan = next;
        }
        if let Some((from, to)) = single {
            // The event goes on in the next read: its data so far must outlive this buffer.
            self.joined.extend_from_slice(&buf[from..to]);
            self.has_data = true;
        }
        if !self.ndjson {
            self.taken += (at - event_start) as u32;
        }
        Some(at)
    }
}

/// One line of NDJSON; blank lines are no events.
fn dispatch_line(line: &[u8], on_event: &mut impl FnMut(Event<'_>) -> bool) -> bool {
    line.is_empty()
        || on_event(Event {
            name: b"",
            data: line,
            bytes: line.len() as u32 + 1,
            is_ended: true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, data, bytes, and whether the event ended.
    type Found = (Vec<u8>, Vec<u8>, u32, bool);

    fn events(parts: &[&[u8]], ndjson: bool) -> Vec<Found> {
        let mut framer = Framer::default();
        framer.reset(ndjson, 0);
        let mut out = Vec::new();
        let mut keep = |e: Event<'_>| {
            out.push((e.name.to_vec(), e.data.to_vec(), e.bytes, e.is_ended));
            true
        };
        for part in parts {
            framer.feed(part, &mut keep);
        }
        framer.finish(&mut keep);
        out
    }

    const STREAM: &[u8] = b": hello\n\ndata: {\"a\":1}\n\nevent: error\ndata: x\ndata:y\nid: 4\n\ndata: two\r\n\r\ndata\n\nretry: 3\n\ndata: [DONE]\n\ndata: unfinished\n";

    #[test]
    fn events_are_the_standards() {
        let got = events(&[STREAM], false);
        let data: Vec<&[u8]> = got.iter().map(|e| &e.1[..]).collect();
        assert_eq!(
            data,
            [&b"{\"a\":1}"[..], b"x\ny", b"two", b"", b"[DONE]", b"unfinished"]
        );
        let ended: Vec<bool> = got.iter().map(|e| e.3).collect();
        assert_eq!(ended, [true, true, true, true, true, false]);
        assert_eq!(got[1].0, b"error");
        assert_eq!(got[0].2, 15);
    }

    #[test]
    fn a_stream_gives_the_same_events_however_it_is_cut() {
        let whole = events(&[STREAM], false);
        for i in 0..=STREAM.len() {
            for j in i..=STREAM.len() {
                let got = events(&[&STREAM[..i], &STREAM[i..j], &STREAM[j..]], false);
                assert_eq!(got, whole, "cut at {i} and {j}");
            }
        }
        let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(events(&bytes, false), whole);
    }

    #[test]
    fn ndjson_lines_are_events_the_last_one_without_newline_too() {
        let stream = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}";
        let whole = events(&[stream], true);
        assert_eq!(whole.len(), 3);
        for i in 0..=stream.len() {
            let got = events(&[&stream[..i], &stream[i..]], true);
            assert_eq!(
                got.iter().map(|e| &e.1).collect::<Vec<_>>(),
                whole.iter().map(|e| &e.1).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_long_line_over_many_reads_is_one_event() {
        let mut long = b"data: ".to_vec();
        long.extend(std::iter::repeat_n(b'x', 500_000));
        long.extend_from_slice(b"\n\n");
        let parts: Vec<&[u8]> = long.chunks(1000).collect();
        let got = events(&parts, false);
        assert_eq!((got.len(), got[0].1.len()), (1, 500_000));
    }
}
