//! Sessions as few bytes, and back: what a second reading of the same files begins with. Prompts repeat what the one before had, so of
//! each only the runs of ids behind the common ones are written.
//!
//! The bytes begin with [`VERSION`]; what another version wrote, or what does not come back whole, is not taken.

use std::io::{Read, Write};

use super::{Corpus, Fault, Request, Session, SubAgent, TurnKind};

/// Kinds of remarks: a session with another one is not stored.
const REMARKS: [&str; 3] = ["time_order", "empty_agent", "empty"];
/// Least work for a tenth of the size.
const LEVEL: i32 = 1;
/// A list is not trusted to be longer than this before it has come.
const MOST_RESERVED: usize = 1 << 16;

/// Changes with every change of the code that reads, writes or keeps sessions.
pub const VERSION: u64 = fingerprint(&[
    include_bytes!("mod.rs"),
    include_bytes!("parse.rs"),
    include_bytes!("parse/explain.rs"),
    include_bytes!("stored.rs"),
    include_bytes!("../ids.rs"),
    include_bytes!("../source.rs"),
    include_bytes!("../source/hashed.rs"),
    include_bytes!("../source/tar.rs"),
]);

/// FNV-1a.
const fn fingerprint(files: &[&[u8]]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut file = 0;
    while file < files.len() {
        let mut at = 0;
        while at < files[file].len() {
            hash = (hash ^ files[file][at] as u64).wrapping_mul(0x100_0000_01B3);
            at += 1;
        }
        file += 1;
    }
    hash
}

impl Corpus {
    /// The corpus as bytes. `None`: it has faults, or remarks that have no number; it is read again then.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if !self.faults.is_empty() {
            return None;
        }
        let mut out = Out::default();
        out.text(&self.digest);
        out.list(&self.sessions, Out::session)?;
        let mut packed = VERSION.to_le_bytes().to_vec();
        let mut encoder = zstd::stream::write::Encoder::new(&mut packed, LEVEL).ok()?;
        encoder.include_checksum(true).ok()?;
        encoder.write_all(&out.0).ok()?;
        encoder.finish().ok()?;
        Some(packed)
    }

    /// What [`Self::to_bytes`] made, of this version and whole; else `None`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, packed) = bytes.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut plain = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(packed).ok()?;
        decoder.read_to_end(&mut plain).ok()?;
        let mut input = In(&plain);
        let digest = input.text()?;
        let sessions = input.list(In::session)?;
        input.0.is_empty().then_some(Self {
            sessions,
            faults: Vec::new(),
            digest,
        })
    }
}

#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn float(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn maybe(&mut self, value: Option<f64>) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.float(value);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, list: &[T], of: impl Fn(&mut Self, &T) -> Option<()>) -> Option<()> {
        self.number(list.len() as u64);
        list.iter().try_for_each(|one| of(self, one))
    }

    fn session(&mut self, session: &Session) -> Option<()> {
        self.text(&session.id);
        self.text(&session.file);
        self.number(session.line.map_or(0, |line| line + 1));
        for tokens in [session.block_size, session.tool_tokens, session.system_tokens] {
            self.number(tokens.into());
        }
        self.list(&session.models, |out, name| {
            out.text(name);
            Some(())
        })?;
        self.requests(&session.requests);
        self.list(&session.agents, |out, agent| {
            out.agent(agent);
            Some(())
        })?;
        self.0.push(u8::from(session.has_relative_times));
        self.list(&session.remarks, |out, remark| {
            out.0.push(REMARKS.iter().position(|k| *k == remark.kind)? as u8);
            for text in [&remark.request, &remark.field, &remark.what] {
                out.text(text);
            }
            // A remark stands where its session does.
            (remark.file == session.file && remark.line == session.line).then_some(())?;
            out.0.push(u8::from(remark.session.is_some()));
            out.text(remark.session.as_deref().unwrap_or_default());
            Some(())
        })
    }

    fn agent(&mut self, agent: &SubAgent) {
        self.float(agent.t);
        self.number(agent.index.into());
        self.text(&agent.agent_id);
        self.requests(&agent.requests);
        self.maybe(agent.duration);
        self.number(agent.preface.into());
    }

    fn requests(&mut self, requests: &[Request]) {
        self.number(requests.len() as u64);
        let mut before: &[(u32, u32)] = &[];
        for request in requests {
            self.float(request.t);
            for number in [request.index, request.model, request.input, request.output] {
                self.number(number.into());
            }
            self.maybe(request.api_time);
            self.maybe(request.think_time);
            self.0.push(request.kind as u8);
            let runs = request.ids.runs();
            let same = runs.iter().zip(before).take_while(|(a, b)| a == b).count();
            self.number(same as u64);
            self.number((runs.len() - same) as u64);
            for &(first, count) in &runs[same..] {
                self.number(first.into());
                self.number(count.into());
            }
            before = runs;
        }
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn float(&mut self) -> Option<f64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    fn maybe(&mut self, value: &mut Option<f64>) -> Option<()> {
        if self.flag()? {
            *value = Some(self.float()?);
        }
        Some(())
    }

    fn kind(&mut self) -> Option<TurnKind> {
        match self.byte()? {
            0 => Some(TurnKind::Unknown),
            1 => Some(TurnKind::ToolResult),
            2 => Some(TurnKind::UserInput),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn list<T>(&mut self, of: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = usize::try_from(self.number()?).ok()?;
        let mut out = Vec::with_capacity(len.min(MOST_RESERVED));
        for _ in 0..len {
            out.push(of(self)?);
        }
        Some(out)
    }

    fn session(&mut self) -> Option<Session> {
        let mut session = Session {
            id: self.text()?,
            file: self.text()?,
            line: self.number()?.checked_sub(1),
            block_size: self.small()?,
            tool_tokens: self.small()?,
            system_tokens: self.small()?,
            models: self.list(Self::text)?,
            requests: self.requests()?,
            agents: self.list(Self::agent)?,
            has_relative_times: self.flag()?,
            remarks: Vec::new(),
        };
        session.remarks = self.list(|input| input.remark(&session))?;
        Some(session)
    }

    fn remark(&mut self, session: &Session) -> Option<Fault> {
        let kind = *REMARKS.get(usize::from(self.byte()?))?;
        let (request, field, what) = (self.text()?, self.text()?, self.text()?);
        let is_named = self.flag()?;
        let name = self.text()?;
        Some(Fault {
            file: session.file.clone(),
            line: session.line,
            session: is_named.then_some(name),
            request,
            field,
            what,
            kind,
        })
    }

    fn agent(&mut self) -> Option<SubAgent> {
        let mut agent = SubAgent {
            t: self.float()?,
            index: self.small()?,
            agent_id: self.text()?,
            requests: self.requests()?,
            ..SubAgent::default()
        };
        self.maybe(&mut agent.duration)?;
        agent.preface = self.small()?;
        Some(agent)
    }

    fn requests(&mut self) -> Option<Vec<Request>> {
        let len = usize::try_from(self.number()?).ok()?;
        let mut out: Vec<Request> = Vec::with_capacity(len.min(MOST_RESERVED));
        for _ in 0..len {
            let mut request = Request {
                t: self.float()?,
                index: self.small()?,
                model: self.small()?,
                input: self.small()?,
                output: self.small()?,
                ..Request::default()
            };
            self.maybe(&mut request.api_time)?;
            self.maybe(&mut request.think_time)?;
            request.kind = self.kind()?;
            let same = usize::try_from(self.number()?).ok()?;
            let before = out.last().map_or(&[][..], |r| r.ids.runs());
            for &(first, count) in before.get(..same)? {
                request.ids.push_run(first, count)?;
            }
            for _ in 0..self.number()? {
                let (first, count) = (self.small()?, self.small()?);
                request.ids.push_run(first, count)?;
            }
            out.push(request);
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Document;

    fn corpus() -> Corpus {
        let texts = [
            r#"{"id":"a","models":["m"],"block_size":64,"hash_id_scope":"local","tool_tokens":100,"system_tokens":20,"requests":[
                {"t":0,"type":"n","model":"m","in":330,"out":70,"hash_ids":[1,2,3,4,5],"api_time":2,"input_types":["tool_result"]},
                {"t":20.5,"type":"s","model":"n","in":640,"out":0,"hash_ids":[1,2,3,4,5,9,8,7,4294967295],"think_time":0.25},
                {"t":10,"type":"n","model":"m","in":600,"out":10,"hash_ids":[]},
                {"t":3,"type":"subagent","agent_id":"x","duration_ms":3000,"requests":[
                    {"t":0.5,"type":"n","model":"m","in":200,"out":5,"hash_ids":[4294967294,4294967295,0]}]},
                {"t":4,"type":"subagent","agent_id":"y","requests":[]}]}"#,
            r#"{"id":"ö","models":[],"block_size":16,"hash_id_scope":"local","requests":[]}"#,
        ];
        let sessions = texts.iter().enumerate().map(|(i, text)| {
            let document = Document {
                file: "a.tar: b.jsonl".into(),
                line: (i == 0).then_some(7),
                bytes: text.as_bytes().to_vec(),
            };
            super::super::parse::parse(&document).expect("valid")
        });
        Corpus {
            sessions: sessions.collect(),
            faults: Vec::new(),
            digest: "abc".into(),
        }
    }

    #[test]
    fn sessions_come_back_as_they_were() {
        let corpus = corpus();
        assert!(!corpus.sessions[0].remarks.is_empty() && !corpus.sessions[1].remarks.is_empty());
        let back = Corpus::from_bytes(&corpus.to_bytes().expect("no faults")).expect("whole");
        assert_eq!(back.sessions, corpus.sessions);
        assert_eq!((back.digest.as_str(), back.faults.len()), ("abc", 0));
    }

    #[test]
    fn what_is_not_whole_or_of_another_version_is_not_taken() {
        let bytes = corpus().to_bytes().expect("no faults");
        for len in 0..bytes.len() {
            assert!(Corpus::from_bytes(&bytes[..len]).is_none(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // zstd's own head has bits that mean nothing: then all is as it was.
            if let Some(found) = Corpus::from_bytes(&changed) {
                assert_eq!(found.sessions, corpus().sessions, "changed at {at}");
            }
        }
    }

    #[test]
    fn a_corpus_with_faults_is_not_stored() {
        let mut corpus = corpus();
        corpus.faults = corpus.sessions[0].remarks.clone();
        assert!(corpus.to_bytes().is_none());
    }
}
