//! Requests of other recordings, given as rows with the streams they belong to: laid out as prompts of blocks.

use super::body::Body;
use super::layout::{Layout, Mark, NONE, mix, seed_of};
use super::prompts::{self, Prompt, Start};
use super::{Request, TurnKind};
use crate::ids::{Ids, Seen};

/// Rows by stream, streams by recording. A stream stands behind the one that it shares its beginning with.
#[derive(Debug, Default)]
pub struct Given {
    /// By row: its stream, never decreasing.
    pub session: Vec<u32>,
    /// By row: tokens of the prompt.
    pub input: Vec<u32>,
    /// By row: tokens of the response.
    pub output: Vec<u32>,
    /// By row, CSR: ids of the prompt's blocks.
    pub id_offsets: Vec<u32>,
    /// See `id_offsets`.
    pub ids: Vec<u32>,
    /// Rows in the order in which they were recorded, by which a cache would have seen them.
    pub order: Vec<u32>,
    /// By stream: its name.
    pub names: Vec<String>,
    /// By stream: its recording.
    pub trace: Vec<u32>,
    /// By stream: the row whose prompt its first one may begin with; `NONE`: none.
    pub source: Vec<u32>,
    /// By recording: where its ids mean something. Recordings of the same scope share the text of equal ids.
    pub scope: Vec<String>,
    /// By recording: tokens of a block.
    pub block_tokens: Vec<u32>,
}

impl Given {
    fn check(&self) -> Result<(), String> {
        let (rows, streams, traces) = (self.session.len(), self.names.len(), self.scope.len());
        for (name, len, expected) in [
            ("input", self.input.len(), rows),
            ("output", self.output.len(), rows),
            ("order", self.order.len(), rows),
            ("id_offsets", self.id_offsets.len(), rows + 1),
            ("trace", self.trace.len(), streams),
            ("source", self.source.len(), streams),
            ("block_tokens", self.block_tokens.len(), traces),
        ] {
            if len != expected {
                return Err(format!("`{name}` has {len} entries, not {expected}"));
            }
        }
        let ends = self.id_offsets.last().copied().unwrap_or(0) as usize;
        if self.id_offsets.windows(2).any(|w| w[0] > w[1]) || ends > self.ids.len() {
            return Err("`id_offsets` must grow up to the number of ids".to_owned());
        }
        let follows = |w: &[u32]| w[1] == w[0] || w[1] == w[0] + 1;
        if self.session.first().is_some_and(|&s| s != 0)
            || !self.session.windows(2).all(follows)
            || self.session.last().map_or(0, |&s| s as usize + 1) != streams
        {
            return Err("`session` must count the streams, none of them empty".to_owned());
        }
        if self.trace.iter().any(|&t| t as usize >= traces) || self.block_tokens.contains(&0) {
            return Err("`trace` or `block_tokens` is out of range".to_owned());
        }
        if self.order.iter().any(|&r| r as usize >= rows) {
            return Err("`order` is out of range".to_owned());
        }
        Ok(())
    }

    /// Prompts, bodies, hits and the seeds of blocks; the other columns stay empty. Err: what is wrong with the columns.
    pub fn lay_out(&self, mark: Mark, text_seed: u64) -> Result<Layout, String> {
        self.check()?;
        let requests: Vec<Request> = (0..self.session.len()).map(|row| self.request(row)).collect();
        let mut out = Layout {
            seg_offsets: vec![0],
            message_offsets: vec![0],
            block_seed: self.scope.iter().map(|scope| seed_of(scope, text_seed)).collect(),
            block_tokens: self.block_tokens.clone(),
            ..Layout::default()
        };
        // Blocks are named after the first recording of their scope.
        let home = |trace: u32| {
            self.scope
                .iter()
                .position(|s| *s == self.scope[trace as usize])
                .unwrap_or(0) as u32
        };
        let homes: Vec<u32> = (0..self.scope.len() as u32).map(home).collect();
        let mut all: Vec<Prompt> = Vec::with_capacity(requests.len());
        let mut first = 0;
        for (session, name) in self.names.iter().enumerate() {
            let end = first
                + self.session[first..]
                    .iter()
                    .take_while(|&&o| o as usize == session)
                    .count();
            let trace = self.trace[session];
            let block = self.block_tokens[trace as usize];
            let own: Vec<&Request> = requests[first..end].iter().collect();
            let source = Some(self.source[session]).filter(|&r| r != NONE && (r as usize) < first);
            let start = Start {
                preface: 0,
                source: source.map(|r| (&all[r as usize], &requests[r as usize].ids)),
            };
            let seed = out.block_seed[trace as usize];
            for (turn, prompt) in prompts::lay_out(&own, block, start).into_iter().enumerate() {
                let row = first + turn;
                out.blocks.push(requests[row].ids.len());
                out.inherited.push(prompt.inherited);
                for m in &prompt.messages {
                    out.message_blocks.push(m.blocks);
                    out.message_tail.push(m.tail);
                    out.message_role.push(m.role as u8);
                }
                out.message_offsets.push(out.message_role.len() as u32);
                let body = Body {
                    prompt: &prompt,
                    request: own[turn],
                    source: if turn == 0 { source } else { Some(row as u32 - 1) },
                    trace: homes[trace as usize],
                    mark,
                    tool_turn: None,
                    live: None,
                };
                let tail = mix(seed_of(name, seed) ^ mix((turn as u64) << 32 | u64::from(own[turn].input)));
                body.write(tail, &mut out);
                all.push(prompt);
            }
            first = end;
        }
        out.turn_kind = vec![TurnKind::Unknown as u8; requests.len()];
        out.hits = self.hits(&requests);
        Ok(out)
    }

    fn request(&self, row: usize) -> Request {
        let (from, to) = (self.id_offsets[row] as usize, self.id_offsets[row + 1] as usize);
        Request {
            input: self.input[row],
            output: self.output[row],
            ids: self.ids[from..to].iter().copied().collect::<Ids>(),
            ..Request::default()
        }
    }

    /// Blocks at each prompt's beginning that an earlier request of its scope had.
    fn hits(&self, requests: &[Request]) -> Vec<u32> {
        let mut seen: std::collections::HashMap<&str, Seen> = std::collections::HashMap::new();
        let mut hits = vec![0; requests.len()];
        for &row in &self.order {
            let row = row as usize;
            let scope = &self.scope[self.trace[self.session[row] as usize] as usize];
            let known = seen.entry(scope).or_default();
            hits[row] = known.leading(&requests[row].ids);
            known.add(&requests[row].ids);
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two recordings of one scope; the second stream of the first shares two of its parent's messages.
    fn given() -> Given {
        Given {
            session: vec![0, 0, 1, 2],
            input: vec![640, 896, 1000, 650],
            output: vec![70, 9, 1, 5],
            id_offsets: vec![0, 10, 24, 39, 49],
            ids: (1..=10)
                .chain(1..=14)
                .chain((1..=13).chain(50..=51))
                .chain(1..=10)
                .collect(),
            order: vec![0, 1, 2, 3],
            names: vec!["a".into(), "a::b".into(), "c".into()],
            trace: vec![0, 0, 1],
            source: vec![NONE, 1, NONE],
            scope: vec!["file".into(), "file".into()],
            block_tokens: vec![64, 64],
        }
    }

    #[test]
    fn rows_become_prompts_with_shared_beginnings_and_hits_of_their_scope() {
        let found = given().lay_out(Mark::None, 0).expect("good columns");
        assert_eq!(found.inherited, [0, 10, 13, 0]);
        assert_eq!(found.hits, [0, 10, 13, 10]);
        assert_eq!(found.blocks, [10, 14, 15, 10]);
        assert_eq!(found.block_seed[0], found.block_seed[1]);
        let apart = Given {
            scope: vec!["a".into(), "c".into()],
            ..given()
        };
        let apart = apart.lay_out(Mark::None, 0).expect("good columns");
        assert_eq!(apart.hits, [0, 10, 13, 0]);
        assert_ne!(apart.block_seed[0], apart.block_seed[1]);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let bad = [
            Given {
                input: vec![1],
                ..given()
            },
            Given {
                id_offsets: vec![0, 10, 24, 39, 99],
                ..given()
            },
            Given {
                session: vec![0, 0, 2, 2],
                ..given()
            },
            Given {
                order: vec![0, 1, 2, 9],
                ..given()
            },
            Given {
                block_tokens: vec![0, 64],
                ..given()
            },
        ];
        for given in bad {
            assert!(given.lay_out(Mark::None, 0).is_err(), "{given:?}");
        }
    }
}
