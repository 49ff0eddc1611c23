//! Sessions → columns: streams as sessions of a plan, prompts as segments, spawns, joins and barriers as rows.

use super::body::{Body, Live};
use super::prompts::{self, Prompt, Start};
use super::settle::{peak, settle};
use super::streams::{self, Rules};
use super::tree::{self, Bond, Span};
use super::{Fault, Request, Session, TurnKind};
use crate::ids::Seen;

/// No value in a `u32` column.
pub const NONE: u32 = u32::MAX;

/// How the times of a sub-agent's requests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// From the marker, for all sessions, if any request lies before its marker.
    #[default]
    Auto,
    /// From the session's start.
    Absolute,
    /// From the marker.
    Relative,
}

/// Where a text that is new in each play goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Nowhere.
    #[default]
    None,
    /// In front of the first user message.
    FirstUser,
    /// In front of the first message.
    First,
}

/// What to make of the sessions.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // documented where users see them
pub struct Options {
    pub basis: Basis,
    pub max_context: Option<u32>,
    pub entries: Option<usize>,
    pub max_isl: Option<u32>,
    pub max_osl: Option<u32>,
    /// s
    pub from: Option<f64>,
    pub to: Option<f64>,
    pub share_parent: bool,
    pub use_think_time: bool,
    pub ignore_delays: bool,
    /// s
    pub delay_cap: Option<f64>,
    pub text_seed: u64,
    pub mark: Mark,
    pub tool_messages: bool,
    /// The server's responses stand in place of the recorded ones, where there are any.
    pub live: bool,
    /// Leave out sessions that contradict others, or themselves.
    pub skip_faulty: bool,
    pub rules: Rules,
}

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The main agent.
    Main = 0,
    /// Another agent of the flat list.
    Flat = 1,
    /// A sub-agent, or one of its flat list.
    Sub = 2,
}

/// All sessions as columns.
#[derive(Debug, Default)]
#[allow(missing_docs)] // named as the columns of the plan (docs/dev)
pub struct Layout {
    // One entry per row.
    pub session: Vec<u32>,
    pub t_ns: Vec<i64>,
    pub delay_ns: Vec<i64>,
    pub isl: Vec<u32>,
    pub osl: Vec<u32>,
    pub model: Vec<u16>,
    pub api_ns: Vec<i64>,
    pub outer: Vec<u32>,
    pub inner: Vec<u32>,
    pub hits: Vec<u32>,
    pub blocks: Vec<u32>,
    pub turn_kind: Vec<u8>,
    pub inherited: Vec<u32>,
    /// Messages per row: (row offsets), role | blocks << 2, tail.
    pub message_offsets: Vec<u32>,
    pub message_blocks: Vec<u32>,
    pub message_tail: Vec<u32>,
    pub message_role: Vec<u8>,
    pub seg_offsets: Vec<u32>,
    pub seg_kind: Vec<u8>,
    pub seg_a: Vec<u64>,
    pub seg_b: Vec<u32>,
    /// Rows that must have ended before this row: CSR.
    pub gate_offsets: Vec<u32>,
    pub gates: Vec<u32>,
    /// Sessions that must be over before this row: CSR.
    pub join_offsets: Vec<u32>,
    pub joins: Vec<u32>,
    // One entry per stream.
    pub names: Vec<String>,
    pub trace: Vec<u32>,
    pub kind: Vec<u8>,
    pub spawn_row: Vec<u32>,
    pub spawn_at_send: Vec<u8>,
    pub spawn_offset_ns: Vec<i64>,
    pub branch_start_ns: Vec<i64>,
    // One entry per session of the corpus.
    pub trace_ids: Vec<String>,
    pub trace_files: Vec<String>,
    pub block_seed: Vec<u64>,
    pub block_tokens: Vec<u32>,
    pub models: Vec<Vec<String>>,
    /// Sessions that were left out: (id, why).
    pub refused: Vec<(String, String)>,
    /// Left out because of `max_context`, and the smallest of their peaks.
    pub too_long: u32,
    pub smallest_peak: Option<u32>,
    pub dropped_requests: u32,
    pub dropped_agents: u32,
    /// What was wrong with sessions that were left out.
    pub left_out: Vec<Fault>,
}

/// splitmix64's output function.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A seed from a text: FNV-1a, mixed.
pub(super) fn seed_of(text: &str, salt: u64) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64 ^ mix(salt);
    for &b in text.as_bytes() {
        hash = (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01B3);
    }
    mix(hash)
}

fn ns(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// One stream of a session, before it gets its rows.
struct Stream<'a> {
    name: String,
    kind: Kind,
    requests: Vec<&'a Request>,
    outer: Option<u32>,
    /// Streams whose order in time is kept are of one scope: 0 the root's, else a sub-agent's.
    scope: usize,
    /// Where its context comes from: a request, by scope and place in its list.
    fork: Option<(usize, usize)>,
    places: Vec<usize>,
    preface: u32,
    /// Of the declared counts: those of the scope's main chain.
    is_main_of_scope: bool,
    bond: Option<Bond>,
    branch: (bool, usize, Option<usize>),
    branch_start: f64,
    entry_start: f64,
}

/// Lay out all sessions. Err: what contradicts between them.
pub fn lay_out(sessions: &mut [Session], options: &Options) -> Result<Layout, Vec<Fault>> {
    let faults = settle(sessions, options.basis);
    if !faults.is_empty() && !options.skip_faulty {
        return Err(faults.into_iter().map(|(_, fault)| fault).collect());
    }
    let faulty: std::collections::BTreeSet<usize> = faults.iter().map(|f| f.0).collect();
    let mut out = Layout {
        seg_offsets: vec![0],
        gate_offsets: vec![0],
        join_offsets: vec![0],
        message_offsets: vec![0],
        left_out: faults.into_iter().map(|(_, fault)| fault).collect(),
        ..Layout::default()
    };
    let good = sessions.iter().enumerate().filter(|(n, _)| !faulty.contains(n));
    for (_, session) in good {
        if options.entries.is_some_and(|n| out.trace_ids.len() >= n) {
            break;
        }
        let peak = peak(session, options.max_osl);
        if options.max_context.is_some_and(|most| peak > most) {
            out.too_long += 1;
            out.smallest_peak = Some(out.smallest_peak.map_or(peak, |p| p.min(peak)));
            continue;
        }
        add(session, options, &mut out);
    }
    Ok(out)
}

/// The streams of a session, the root first.
fn streams_of<'a>(session: &'a Session, kept: &'a [Request], options: &Options, out: &mut Layout) -> Vec<Stream<'a>> {
    let declared = session.tool_tokens.saturating_add(session.system_tokens);
    let mut all = Vec::new();
    for chain in streams::split(kept, &options.rules) {
        let is_root = chain.name.is_empty();
        all.push(Stream {
            name: if is_root {
                session.id.clone()
            } else {
                format!("{}::{}", session.id, chain.name)
            },
            kind: if is_root { Kind::Main } else { Kind::Flat },
            requests: chain.members.iter().map(|&i| &kept[i]).collect(),
            outer: None,
            scope: 0,
            fork: chain.fork.map(|(place, _)| (0, place)),
            places: chain.members,
            preface: declared,
            is_main_of_scope: is_root,
            bond: None,
            branch: (false, 0, None),
            branch_start: 0.0,
            entry_start: 0.0,
        });
    }
    if all.is_empty() {
        return all;
    }
    let root: Vec<Span> = spans(&all[0]);
    for stream in &mut all[1..] {
        let list = spans(stream);
        let end = list.iter().map(|s| s.end).fold(f64::NEG_INFINITY, f64::max);
        let bond = tree::bond_of_stream(&root, list[0], end);
        stream.bond = Some(bond);
        stream.branch = (false, bond.spawn, bond.join);
        stream.entry_start = list[0].start;
    }
    for (number, agent) in session.agents.iter().enumerate() {
        let last = agent
            .requests
            .iter()
            .map(Request::end)
            .fold(f64::NEG_INFINITY, f64::max);
        let end = agent.duration.map_or_else(
            || if agent.requests.is_empty() { agent.t } else { last },
            |d| agent.t + d,
        );
        let Some(bond) = tree::bond_of_entry(&root, agent.index, end) else {
            out.dropped_agents += 1;
            continue;
        };
        for chain in streams::split(&agent.requests, &options.rules) {
            let is_main = chain.name.is_empty();
            let name = format!("{}::sa:{}", session.id, agent.agent_id);
            all.push(Stream {
                name: if is_main {
                    name
                } else {
                    format!("{name}:{}", chain.name)
                },
                kind: Kind::Sub,
                requests: chain.members.iter().map(|&i| &agent.requests[i]).collect(),
                outer: Some(agent.index),
                scope: number + 1,
                fork: chain.fork.map(|(place, _)| (number + 1, place)),
                places: chain.members,
                preface: agent.preface,
                is_main_of_scope: is_main,
                bond: Some(bond),
                branch: (true, bond.spawn, bond.join),
                branch_start: 0.0,
                entry_start: agent.t,
            });
        }
    }
    for number in 1..all.len() {
        let of = all[number].branch;
        let start = all[1..]
            .iter()
            .filter(|s| s.branch == of)
            .map(|s| s.entry_start)
            .fold(f64::INFINITY, f64::min);
        all[number].branch_start = start;
    }
    all
}

fn spans(stream: &Stream<'_>) -> Vec<Span> {
    stream
        .requests
        .iter()
        .map(|r| Span {
            start: r.t,
            end: r.end(),
            index: r.index,
        })
        .collect()
}

/// Add one session's streams.
fn add(session: &Session, options: &Options, out: &mut Layout) {
    let kept: Vec<Request> = session
        .requests
        .iter()
        .filter(|r| {
            options.max_isl.is_none_or(|most| r.input <= most)
                && options.from.is_none_or(|from| r.t >= from)
                && options.to.is_none_or(|to| r.t <= to)
        })
        .cloned()
        .collect();
    out.dropped_requests += (session.requests.len() - kept.len()) as u32;
    if kept.is_empty() {
        out.refused
            .push((session.id.clone(), "its main agent has no request".to_owned()));
        return;
    }
    let streams = streams_of(session, &kept, options, out);
    let block = session.block_size;
    let mut prompts: Vec<Vec<Prompt>> = vec![Vec::new(); streams.len()];
    let mut sources: Vec<Option<(usize, usize)>> = vec![None; streams.len()];
    let mut order: Vec<usize> = (0..streams.len()).collect();
    // A source begins before those that share its context.
    order[1..].sort_by(|&a, &b| {
        let key = |s: usize| (streams[s].requests[0].t, streams[s].requests[0].index);
        key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
    });
    order.sort_by_key(|&s| (s > 0, !streams[s].is_main_of_scope && streams[s].scope > 0));
    for &number in &order {
        let stream = &streams[number];
        let needed = stream.preface.div_ceil(block);
        let first = stream.requests[0];
        let main = streams.iter().find(|o| o.scope == stream.scope && o.is_main_of_scope);
        let is_declared = stream.is_main_of_scope
            || main.is_some_and(|m| {
                let head = m.requests[0];
                head.ids.common_prefix(&first.ids) >= needed && first.ids.len() >= needed
            });
        if stream.is_main_of_scope && first.ids.len() < needed {
            let text = format!(
                "stream `{}` declares {} tokens of tools and system prompt ({needed} blocks), its first prompt has {} blocks",
                stream.name,
                stream.preface,
                first.ids.len()
            );
            out.refused.push((session.id.clone(), text));
            return;
        }
        let place = match stream.kind {
            Kind::Main => None,
            _ if stream.kind == Kind::Sub && stream.is_main_of_scope => stream.bond.map(|b| (0, b.spawn)),
            _ => stream.fork.and_then(|(scope, place)| {
                let at = |o: &Stream<'_>| o.places.iter().position(|&p| p == place);
                streams
                    .iter()
                    .enumerate()
                    .filter(|(_, o)| o.scope == scope)
                    .find_map(|(n, o)| Some((n, at(o)?)))
            }),
        };
        let place = place.filter(|&(n, turn)| options.share_parent && n != number && turn < prompts[n].len());
        // The responses within a prompt that comes later are not known yet when the child begins.
        let place = place.filter(|&(n, turn)| !options.live || streams[n].requests[turn].t <= first.t);
        sources[number] = place;
        let source = place.map(|(n, turn)| (&prompts[n][turn], &streams[n].requests[turn].ids));
        let start = Start {
            preface: if is_declared { needed } else { 0 },
            source,
        };
        prompts[number] = prompts::lay_out(&stream.requests, block, start);
    }
    write(session, options, &streams, &prompts, &sources, out);
}

fn write(
    session: &Session,
    options: &Options,
    streams: &[Stream<'_>],
    prompts: &[Vec<Prompt>],
    sources: &[Option<(usize, usize)>],
    out: &mut Layout,
) {
    let trace = out.trace_ids.len() as u32;
    let seed = seed_of(&session.id, options.text_seed);
    let base_stream = out.names.len() as u32;
    let mut first_row = Vec::with_capacity(streams.len());
    let mut next = out.session.len() as u32;
    for stream in streams {
        first_row.push(next);
        next += stream.requests.len() as u32;
    }
    let gates = gates(streams);
    let hits = hits(streams);
    for (number, stream) in streams.iter().enumerate() {
        let root = &streams[0];
        out.names.push(stream.name.clone());
        out.trace.push(trace);
        out.kind.push(stream.kind as u8);
        out.branch_start_ns.push(ns(stream.branch_start));
        if let Some(bond) = stream.bond {
            let spawner = root.requests[bond.spawn];
            let api = spawner.api_time.unwrap_or(0.0);
            let at_send = api > 0.0 && stream.branch_start < spawner.t + api;
            let from = if at_send { spawner.t } else { stream.branch_start };
            out.spawn_row.push(first_row[0] + bond.spawn as u32);
            out.spawn_at_send.push(u8::from(at_send));
            let offset = if options.ignore_delays {
                0
            } else {
                ns(stream.requests[0].t - from).max(0)
            };
            out.spawn_offset_ns.push(offset);
        } else {
            out.spawn_row.push(NONE);
            out.spawn_at_send.push(0);
            out.spawn_offset_ns.push(0);
        }
        for (turn, request) in stream.requests.iter().enumerate() {
            out.session.push(base_stream + number as u32);
            out.t_ns.push(ns(request.t));
            out.delay_ns.push(delay(&stream.requests, turn, options));
            out.isl.push(request.input);
            let most = if stream.kind == Kind::Sub {
                u32::MAX
            } else {
                options.max_osl.unwrap_or(u32::MAX)
            };
            out.osl.push(request.output.min(most).max(1));
            out.model.push(request.model as u16);
            out.api_ns.push(request.api_time.map_or(-1, ns));
            out.outer.push(stream.outer.unwrap_or(request.index));
            out.inner
                .push(if stream.outer.is_some() { request.index } else { NONE });
            out.hits.push(hits[number][turn]);
            out.blocks.push(request.ids.len());
            out.turn_kind.push(request.kind as u8);
            let prompt = &prompts[number][turn];
            out.inherited.push(prompt.inherited);
            for m in &prompt.messages {
                out.message_blocks.push(m.blocks);
                out.message_tail.push(m.tail);
                out.message_role.push(m.role as u8);
            }
            out.message_offsets.push(out.message_role.len() as u32);
            let source = match turn {
                0 => sources[number].map(|(n, turn)| first_row[n] + turn as u32),
                _ => Some(first_row[number] + turn as u32 - 1),
            };
            let body = Body {
                prompt,
                request,
                source,
                trace,
                mark: options.mark,
                tool_turn: (options.tool_messages && request.kind == TurnKind::ToolResult).then_some(turn as u32),
                live: (options.live && turn > 0).then(|| Live {
                    row: first_row[number] + turn as u32 - 1,
                    output: stream.requests[turn - 1].output.min(most).max(1),
                    block: session.block_size,
                }),
            };
            let tail_seed = mix(seed_of(&stream.name, seed) ^ mix((turn as u64) << 32 | u64::from(request.input)));
            body.write(tail_seed, out);
            out.gates
                .extend(gates[number][turn].iter().map(|&(n, turn)| first_row[n] + turn as u32));
            out.gate_offsets.push(out.gates.len() as u32);
            if number == 0 {
                let waits = streams
                    .iter()
                    .enumerate()
                    .filter(|(_, c)| c.bond.is_some_and(|b| b.join == Some(turn)));
                out.joins.extend(waits.map(|(n, _)| base_stream + n as u32));
            }
            out.join_offsets.push(out.joins.len() as u32);
        }
    }
    out.trace_ids.push(session.id.clone());
    out.trace_files.push(session.file.clone());
    out.block_seed.push(seed);
    out.block_tokens.push(session.block_size);
    out.models.push(session.models.clone());
}

fn delay(requests: &[&Request], k: usize, options: &Options) -> i64 {
    if k == 0 || options.ignore_delays {
        return 0;
    }
    let (before, this) = (requests[k - 1], requests[k]);
    let recorded = ((this.t - before.t) - before.api_time.unwrap_or(0.0)).max(0.0);
    let think = this.think_time.filter(|_| options.use_think_time).unwrap_or(recorded);
    ns(think.min(options.delay_cap.unwrap_or(f64::INFINITY)))
}

/// For each turn of each stream the turns it waits for, of its own scope.
fn gates(streams: &[Stream<'_>]) -> Vec<Vec<Vec<(usize, usize)>>> {
    let mut out: Vec<Vec<Vec<(usize, usize)>>> = streams.iter().map(|s| vec![Vec::new(); s.requests.len()]).collect();
    let scopes: std::collections::BTreeSet<usize> = streams.iter().map(|s| s.scope).collect();
    for scope in scopes {
        let members: Vec<usize> = (0..streams.len()).filter(|&s| streams[s].scope == scope).collect();
        if members.len() < 2 {
            continue;
        }
        let lists: Vec<Vec<Span>> = members.iter().map(|&s| spans(&streams[s])).collect();
        let views: Vec<&[Span]> = lists.iter().map(Vec::as_slice).collect();
        for (own, turns) in tree::barriers(&views).into_iter().enumerate() {
            for (k, waits) in turns.into_iter().enumerate() {
                out[members[own]][k] = waits.into_iter().map(|(n, turn)| (members[n], turn)).collect();
            }
        }
    }
    out
}

/// Blocks at each prompt's beginning that an earlier request of the session had, in the recorded order.
fn hits(streams: &[Stream<'_>]) -> Vec<Vec<u32>> {
    let mut out: Vec<Vec<u32>> = streams.iter().map(|s| vec![0; s.requests.len()]).collect();
    let mut order: Vec<(usize, usize)> = Vec::new();
    for (s, stream) in streams.iter().enumerate() {
        order.extend((0..stream.requests.len()).map(|k| (s, k)));
    }
    let key = |&(s, k): &(usize, usize)| {
        let r = streams[s].requests[k];
        (r.t, streams[s].outer.unwrap_or(r.index), s, k)
    };
    order.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    let mut seen = Seen::default();
    for (s, k) in order {
        let ids = &streams[s].requests[k].ids;
        out[s][k] = seen.leading(ids);
        seen.add(ids);
    }
    out
}
