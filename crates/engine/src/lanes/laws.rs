//! Laws of lanes, on a clock of our own and with random recordings.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::agents::mark;
use crate::part::Division;
use crate::plan::{Columns, NONE_U32};
use crate::settings::{self, LaneStart, PhaseKind, Sampling, StreamStart};
use crate::turn::{Turn, TurnEnd};

const S: i64 = 1_000_000_000;

#[derive(Default)]
struct Recording {
    columns: Columns,
    agents: Agents,
}

impl Recording {
    /// A stream with turns at these seconds, each response taking one second.
    fn stream(&mut self, root: Option<u32>, spawn: Option<(u32, bool, i64)>, starts: &[i64]) -> u32 {
        let session = self.agents.root.len() as u32;
        if root.is_none() {
            self.agents.names.push(format!("trace{session}"));
            self.agents.block_seed.push(1);
            self.agents.block_tokens.push(64);
        }
        self.agents.root.push(root.unwrap_or(session));
        self.agents.trace.push(self.agents.names.len() as u32 - 1);
        let (row, at_send, offset) = spawn.unwrap_or((NONE_U32, false, 0));
        self.agents.spawn_row.push(row);
        self.agents.spawn_at_send.push(u8::from(at_send));
        self.agents.spawn_offset_ns.push(offset * S);
        for (k, &start) in starts.iter().enumerate() {
            let delay = if k == 0 {
                0
            } else {
                (start - starts[k - 1] - 1).max(0) * S
            };
            self.columns.session.push(session);
            self.columns.at_ns.push(-1);
            self.columns.delay_ns.push(delay);
            self.columns.isl.push(10);
            self.columns.osl.push(10);
            self.columns.model.push(0);
            self.columns.path.push(0);
            self.agents.t_ns.push(start * S);
        }
        session
    }

    /// `gates`, `joins`: (row, what it waits for).
    fn plan(mut self, gates: &[(u32, u32)], joins: &[(u32, u32)]) -> Arc<Plan> {
        let rows = self.columns.session.len() as u32;
        let csr = |pairs: &[(u32, u32)]| {
            let mut offsets = vec![0];
            let mut values = Vec::new();
            for row in 0..rows {
                values.extend(pairs.iter().filter(|p| p.0 == row).map(|p| p.1));
                offsets.push(values.len() as u32);
            }
            (offsets, values)
        };
        (self.agents.gate_offsets, self.agents.gates) = csr(gates);
        (self.agents.join_offsets, self.agents.joins) = csr(joins);
        self.columns.seg_offsets = vec![0; rows as usize + 1];
        self.columns.agents = Some(self.agents);
        Arc::new(Plan::new(self.columns).expect("a valid plan"))
    }
}

fn phase(load: Settings, kind: PhaseKind, requests: Option<u64>, start: i64, plan: &Plan) -> Arc<Phase> {
    let settings = settings::Phase {
        name: "test".into(),
        kind,
        load: Load::Lanes(load),
        concurrency: None,
        prefill_concurrency: None,
        concurrency_ramp: None,
        prefill_ramp: None,
        sampling: Sampling::Sequential,
        requests,
        sessions: None,
        duration_ns: None,
        repeat: true,
        grace_ns: None,
        max_error_rate: None,
        cancel: None,
        hold: false,
    };
    Arc::new(Phase::new(0, 1, &settings, Division::WHOLE, plan, 7, start))
}

fn lanes_of(starts: Vec<LaneStart>, order: &[u32]) -> Settings {
    Settings {
        order: order.to_vec(),
        draws_from: starts.len() as u64,
        starts,
        benchmark: "b".into(),
        ..Settings::default()
    }
}

/// A lane that begins with the first turn of a root.
fn whole(lane: u32, root: u32, plan: &Plan) -> LaneStart {
    let row = plan.rows(root).start;
    LaneStart {
        lane,
        root: Some(root),
        draw: u64::from(lane),
        origin_ns: plan.agents().map_or(0, |a| a.t_ns[row as usize]),
        streams: vec![StreamStart {
            session: root,
            row,
            primer: None,
            lead_ns: 0,
        }],
    }
}

/// (when it was sent, when it was due, row, play's number, its mark)
type Sent = (i64, i64, u32, u64, Mark);

/// Run a phase to its end, or until `stop_at`. `respond(row)`: how long a response takes, whether it is good, whether the context overflowed.
fn run(
    lanes: &mut Lanes,
    phase: &Arc<Phase>,
    stop_at: i64,
    mut respond: impl FnMut(u32) -> (i64, bool, bool),
) -> Vec<Sent> {
    lanes.begin_phase(Arc::clone(phase));
    let mut now = phase.start;
    let mut sent = Vec::new();
    let mut last_end = now;
    let mut in_flight: Vec<(i64, Turn, bool, bool)> = Vec::new();
    for _ in 0..200_000 {
        if now >= stop_at && !phase.is_stopped() {
            phase.stop.store(true, SeqCst);
            lanes.look(now);
        }
        lanes.wake(now);
        lanes.pull(now);
        while let Some(turn) = lanes.next_turn() {
            assert!(turn.scheduled <= now, "sent before it was due");
            assert!(!phase.is_stopped(), "sent after the end");
            let (took, is_ok, overflowed) = respond(turn.row);
            sent.push((
                now,
                turn.scheduled,
                turn.row,
                turn.session_num,
                turn.mark.expect("a mark"),
            ));
            in_flight.push((now + took, turn, is_ok, overflowed));
        }
        if lanes.take_idle() && phase.active.load(SeqCst) == 0 && phase.exhausted.load(SeqCst) {
            assert!(in_flight.is_empty(), "idle with requests in flight");
            let has_more = phase.has_tickets() || phase.is_stopped();
            assert!(has_more || now == last_end, "waits when all its requests have ended");
            return sent;
        }
        let next = in_flight
            .iter()
            .map(|f| f.0)
            .min()
            .unwrap_or(NEVER)
            .min(lanes.next_due());
        let next = if now < stop_at { next.min(stop_at) } else { next };
        assert!(
            next < NEVER,
            "hangs at {now}: {:?}",
            lanes.plays.iter().collect::<Vec<_>>()
        );
        now = now.max(next);
        while let Some(at) = in_flight.iter().position(|f| f.0 <= now) {
            let (end, turn, is_ok, overflowed) = in_flight.swap_remove(at);
            last_end = last_end.max(end);
            if let Some(gate) = phase.prefill.as_ref().filter(|_| turn.holds_prefill) {
                gate.leave();
            }
            lanes.end_turn(TurnEnd {
                session_id: turn.session_id,
                row: turn.row,
                is_ok,
                overflowed,
                reply: None,
                connection: None,
                at: end,
            });
        }
    }
    panic!("does not end");
}

fn rows_at(sent: &[Sent]) -> Vec<(u32, i64)> {
    sent.iter().map(|s| (s.2, s.0 / S)).collect()
}

fn second(_: u32) -> (i64, bool, bool) {
    (S, true, false)
}

#[test]
fn think_time_counts_from_the_end_of_the_real_response() {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 5, 20]);
    let plan = r.plan(&[], &[]);
    let phase = phase(
        lanes_of(vec![whole(0, 0, &plan)], &[0]),
        PhaseKind::Profiling,
        None,
        0,
        &plan,
    );
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &phase, NEVER, |_| {
        (3 * S, true, false)
    });
    assert_eq!(rows_at(&sent), [(0, 0), (1, 7), (2, 24)]);
    assert_eq!(phase.ok.load(SeqCst), 0);
}

/// root 0: turns 0, 1, 2; child 1 spawned by row 0, joined by row 2.
fn with_child(at_send: bool) -> Arc<Plan> {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 4, 20]);
    r.stream(Some(0), Some((0, at_send, 2)), &[2, 10]);
    r.plan(&[], &[(2, 1)])
}

#[test]
fn a_child_is_spawned_at_send_or_at_the_end_and_joined_when_it_is_over() {
    for (at_send, child) in [(true, 2), (false, 12)] {
        let plan = with_child(at_send);
        let phase = phase(
            lanes_of(vec![whole(0, 0, &plan)], &[0]),
            PhaseKind::Profiling,
            None,
            0,
            &plan,
        );
        let respond = |row| (if row == 4 { 100 * S } else { 10 * S }, true, false);
        let mut lanes = Lanes::new(Arc::clone(&plan), 1);
        let sent = run(&mut lanes, &phase, NEVER, respond);
        let at: HashMap<u32, i64> = rows_at(&sent).into_iter().collect();
        assert_eq!((at[&3], at[&1]), (child, 13));
        // Due at 13 + 10 + 15, but the child's last response comes later.
        assert_eq!(at[&2], at[&4] + 100);
        assert_eq!((lanes.stats.children_spawned, lanes.stats.turns_held), (1, 1));
    }
}

#[test]
fn an_overflow_ends_its_stream_and_nothing_hangs() {
    for overflow in 0..5 {
        let plan = with_child(true);
        let phase = phase(
            lanes_of(vec![whole(0, 0, &plan)], &[0]),
            PhaseKind::Profiling,
            None,
            0,
            &plan,
        );
        let mut lanes = Lanes::new(Arc::clone(&plan), 1);
        let sent = run(&mut lanes, &phase, NEVER, |row| (S, row != overflow, row == overflow));
        let rows: HashSet<u32> = sent.iter().map(|s| s.2).collect();
        let lost: &[u32] = match overflow {
            0 => &[1, 2],
            1 => &[2],
            3 => &[4],
            _ => &[],
        };
        assert_eq!(rows, (0..5).filter(|r| !lost.contains(r)).collect(), "{overflow}");
        assert_eq!(lanes.stats.streams_overflowed, 1);
    }
}

#[test]
fn an_error_changes_nothing() {
    let plan = with_child(true);
    let phase = phase(
        lanes_of(vec![whole(0, 0, &plan)], &[0]),
        PhaseKind::Profiling,
        None,
        0,
        &plan,
    );
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &phase, NEVER, |_| {
        (S, false, false)
    });
    assert_eq!(sent.len(), 5);
}

#[test]
fn a_lane_is_held_until_the_last_child_and_then_takes_the_next_trace_with_a_new_mark() {
    let mut r = Recording::default();
    r.stream(None, None, &[0]);
    r.stream(Some(0), Some((0, true, 1)), &[1, 50]);
    let plan = r.plan(&[], &[]);
    let mut load = lanes_of(vec![whole(0, 0, &plan)], &[0]);
    load.wrap = true;
    let p = phase(load, PhaseKind::Profiling, None, 0, &plan);
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &p, 60 * S, second);
    assert_eq!(rows_at(&sent), [(0, 0), (1, 1), (2, 50), (0, 51), (1, 52)]);
    let marks: Vec<Mark> = sent.iter().map(|s| s.4).collect();
    assert!(marks[0] == marks[1] && marks[1] == marks[2] && marks[3] == marks[4] && marks[2] != marks[3]);
    assert_eq!(marks[3], mark("b", 1, 0, "trace0"));
}

#[test]
fn idle_time_of_all_lanes_is_bounded_and_its_spacing_kept() {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 61]);
    r.stream(None, None, &[0, 64]);
    let plan = r.plan(&[], &[]);
    let mut load = lanes_of(vec![whole(0, 0, &plan), whole(1, 1, &plan)], &[0, 1]);
    load.idle_cap_ns = Some(10 * S);
    let p = phase(load, PhaseKind::Profiling, None, 0, &plan);
    let mut lanes = Lanes::new(Arc::clone(&plan), 1);
    let sent = run(&mut lanes, &p, NEVER, second);
    assert_eq!(rows_at(&sent), [(0, 0), (2, 0), (1, 11), (3, 14)]);
    assert_eq!((lanes.stats.idle_jumps, lanes.stats.idle_skipped_ns), (1, 50 * S));
}

#[test]
fn one_busy_lane_keeps_the_others_waiting_as_recorded() {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 61]);
    r.stream(None, None, &[0]);
    let plan = r.plan(&[], &[]);
    let mut load = lanes_of(vec![whole(0, 0, &plan), whole(1, 1, &plan)], &[0, 1]);
    load.idle_cap_ns = Some(10 * S);
    let p = phase(load, PhaseKind::Profiling, None, 0, &plan);
    let mut lanes = Lanes::new(Arc::clone(&plan), 1);
    let sent = run(&mut lanes, &p, NEVER, |row| {
        (if row == 2 { 100 * S } else { S }, true, false)
    });
    assert_eq!(rows_at(&sent), [(0, 0), (2, 0), (1, 61)]);
    assert_eq!(lanes.stats.idle_jumps, 0);
}

#[test]
fn a_held_turn_does_not_stop_the_jumping() {
    // The root's second turn is due early and waits for the child, which sleeps for long.
    let mut r = Recording::default();
    r.stream(None, None, &[0, 2]);
    r.stream(Some(0), Some((0, true, 500)), &[500]);
    let plan = r.plan(&[], &[(1, 1)]);
    let mut load = lanes_of(vec![whole(0, 0, &plan)], &[0]);
    load.idle_cap_ns = Some(10 * S);
    let p = phase(load, PhaseKind::Profiling, None, 0, &plan);
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &p, NEVER, second);
    assert_eq!(rows_at(&sent), [(0, 0), (2, 11), (1, 12)]);
}

#[test]
fn the_cap_of_a_tree_moves_its_own_timers_only() {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 100]);
    r.stream(None, None, &[0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
    let plan = r.plan(&[], &[]);
    let mut load = lanes_of(vec![whole(0, 0, &plan), whole(1, 1, &plan)], &[0, 1]);
    load.tree_idle_cap_ns = Some(5 * S);
    let p = phase(load, PhaseKind::Profiling, None, 0, &plan);
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &p, NEVER, second);
    let at: HashMap<u32, i64> = rows_at(&sent).into_iter().collect();
    assert_eq!((at[&1], at[&12]), (6, 30));
}

/// Two lanes that begin within a recording: turn 1 of the root is next, turn 0 is its history.
fn within(plan: &Plan, lane: u32, root: u32, origin: i64) -> LaneStart {
    let row = plan.rows(root).start + 1;
    let time_of = |row: u32| plan.agents().map_or(0, |a| a.t_ns[row as usize]);
    LaneStart {
        lane,
        root: Some(root),
        draw: u64::from(lane),
        origin_ns: origin * S,
        streams: vec![StreamStart {
            session: root,
            row,
            primer: Some(row - 1),
            lead_ns: origin * S - time_of(row - 1),
        }],
    }
}

fn two_within(plan: &Plan) -> Settings {
    lanes_of(vec![within(plan, 0, 0, 3), within(plan, 1, 1, 7)], &[0, 1])
}

fn two_recordings() -> Arc<Plan> {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 10, 20, 30]);
    r.stream(None, None, &[0, 12, 20, 30]);
    r.plan(&[], &[])
}

fn warm(load: &Settings) -> Settings {
    Settings {
        stage: LanesStage::Warmup,
        output_cap: Some(1),
        ..load.clone()
    }
}

#[test]
fn primers_are_sent_as_recorded_and_profiling_begins_with_the_earliest_turn() {
    let plan = two_recordings();
    let load = two_within(&plan);
    let mut lanes = Lanes::new(Arc::clone(&plan), 1);
    let w = phase(warm(&load), PhaseKind::Warmup, None, 0, &plan);
    let sent = run(&mut lanes, &w, NEVER, second);
    assert_eq!(rows_at(&sent), [(4, 0), (0, 4)], "all recorded instants coincide");
    let p = phase(load, PhaseKind::Profiling, None, 100 * S, &plan);
    let more = run(&mut lanes, &p, NEVER, second);
    // Offsets 10 − 3 and 12 − 7.
    assert_eq!(more[0].2, 5);
    assert_eq!(rows_at(&more)[..2], [(5, 100), (1, 102)]);
    assert!(
        sent.iter()
            .chain(&more)
            .all(|s| s.4 == mark("b", 0, u32::from(s.2 >= 4), &format!("trace{}", u32::from(s.2 >= 4))))
    );
}

#[test]
fn the_pressure_of_a_warm_up_is_exactly_its_quota_and_goes_on_from_there() {
    let plan = two_recordings();
    for quota in 1..9 {
        let mut load = two_within(&plan);
        load.wrap = true;
        let mut lanes = Lanes::new(Arc::clone(&plan), 1);
        let warmup = phase(
            Settings {
                pressure_requests: Some(quota),
                ..warm(&load)
            },
            PhaseKind::Warmup,
            None,
            0,
            &plan,
        );
        let sent = run(&mut lanes, &warmup, NEVER, second);
        assert_eq!(sent.len(), 2 + 2 * quota as usize);
        let p = phase(load, PhaseKind::Profiling, None, 1000 * S, &plan);
        let more = run(&mut lanes, &p, 1500 * S, second);
        assert_eq!(more[0].0, 1000 * S);
        let first = more.iter().find(|s| s.3 == 0).map(|s| s.2);
        assert_eq!(first, (quota < 3).then_some(1 + quota), "{quota}");
    }
}

#[test]
fn the_failure_of_a_roots_primer_ends_the_warm_up() {
    let plan = two_recordings();
    let mut lanes = Lanes::new(Arc::clone(&plan), 1);
    let w = phase(warm(&two_within(&plan)), PhaseKind::Warmup, None, 0, &plan);
    run(&mut lanes, &w, NEVER, |_| (S, false, false));
    assert!(lanes.take_abort() && w.warmup_failed.load(SeqCst));
}

#[test]
fn a_bound_of_requests_is_kept_and_ends_the_phase() {
    for bound in 1..20 {
        let plan = with_child(true);
        let mut load = lanes_of(vec![whole(0, 0, &plan), whole(1, 0, &plan)], &[0]);
        load.wrap = true;
        let phase = phase(load, PhaseKind::Profiling, Some(bound), 0, &plan);
        let mut lanes = Lanes::new(Arc::clone(&plan), 1);
        assert_eq!(run(&mut lanes, &phase, NEVER, second).len() as u64, bound);
        // What was begun is sent or counted as skipped: five turns a play.
        let begun = lanes.stats.plays_started * 5;
        assert_eq!(bound + phase.skipped_turns.load(SeqCst), begun, "{bound}");
        assert!(lanes.stats.plays_completed * 5 <= bound);
    }
}

#[test]
fn the_last_request_of_a_bound_may_wait_at_the_gate_of_prefills() {
    for bound in 1..12 {
        let plan = two_recordings();
        let mut load = lanes_of(vec![whole(0, 0, &plan), whole(1, 1, &plan)], &[0, 1]);
        load.wrap = true;
        let open = phase(load, PhaseKind::Profiling, Some(bound), 0, &plan);
        let gated = settings::Phase {
            prefill_concurrency: Some(1),
            ..open.settings.clone()
        };
        let p = Arc::new(Phase::new(0, 1, &gated, Division::WHOLE, &plan, 7, 0));
        let mut lanes = Lanes::new(Arc::clone(&plan), 1);
        let sent = run(&mut lanes, &p, NEVER, |row| (S * i64::from(1 + row % 7), true, false));
        assert_eq!(sent.len() as u64, bound);
    }
}

/// Random recordings with children, gates that point back in time and joins; responses of any length, any outcome.
#[test]
fn random_replays_keep_the_order_end_and_never_hold_more_plays_than_lanes() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut recording = Recording::default();
        let (mut gates, mut joins, mut roots) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rng.random_range(1..4) {
            let times = |rng: &mut StdRng, from: i64| {
                let mut t = from;
                (0..rng.random_range(1..6))
                    .map(|_| {
                        t += rng.random_range(1..40);
                        t
                    })
                    .collect::<Vec<i64>>()
            };
            let base = recording.columns.session.len() as u32;
            let starts = times(&mut rng, 0);
            let root = recording.stream(None, None, &starts);
            roots.push(root);
            for _ in 0..rng.random_range(0..4) {
                let spawn = rng.random_range(0..starts.len());
                let at_send = rng.random_bool(0.5);
                let own = times(&mut rng, starts[spawn]);
                let first = recording.columns.session.len() as u32;
                let offset = own[0] - starts[spawn];
                let child = recording.stream(Some(root), Some((base + spawn as u32, at_send, offset)), &own);
                let last = own[own.len() - 1] + 1;
                if let Some(join) = (spawn + 1..starts.len()).find(|&k| starts[k] >= last) {
                    joins.push((base + join as u32, child));
                }
                for (k, &t) in own.iter().enumerate() {
                    if let Some(before) = starts.iter().rposition(|&s| s < t)
                        && rng.random_bool(0.5)
                    {
                        gates.push((first + k as u32, base + before as u32));
                    }
                }
            }
        }
        let plan = recording.plan(&gates, &joins);
        let count = rng.random_range(1..4u32);
        let order: Vec<u32> = roots.clone();
        let starts = (0..count)
            .map(|l| whole(l, order[l as usize % order.len()], &plan))
            .collect();
        let mut load = lanes_of(starts, &order);
        load.wrap = true;
        load.idle_cap_ns = rng.random_bool(0.5).then_some(7 * S);
        load.tree_idle_cap_ns = rng.random_bool(0.5).then_some(9 * S);
        let bound = rng.random_bool(0.5).then(|| rng.random_range(1..30));
        let open = phase(load, PhaseKind::Profiling, bound, 0, &plan);
        let gated = settings::Phase {
            prefill_concurrency: rng.random_bool(0.3).then(|| rng.random_range(1..3)),
            ..open.settings.clone()
        };
        let phase = Arc::new(Phase::new(0, 1, &gated, Division::WHOLE, &plan, 7, 0));
        let mut lanes = Lanes::new(Arc::clone(&plan), seed);
        let failing = rng.random_bool(0.3);
        let sent = run(&mut lanes, &phase, 400 * S, |_| {
            let overflowed = failing && rng.random_bool(0.1);
            (
                rng.random_range(1..60 * S),
                !overflowed && !rng.random_bool(0.1),
                overflowed,
            )
        });
        assert!(sent.iter().any(|s| s.0 > 0) || plan.num_turns() < 3 || bound.is_some());
        if let Some(bound) = bound {
            let is_reached = sent.len() as u64 == bound;
            assert!(
                is_reached || phase.is_stopped(),
                "seed {seed}: {} of {bound}",
                sent.len()
            );
        }
        let mut seen = HashSet::new();
        let mut open: HashMap<u64, i64> = HashMap::new();
        for (at, _, row, play, _) in &sent {
            assert!(seen.insert((*play, *row)), "a turn was sent twice");
            let session = plan.session_of(*row);
            let is_first = plan.rows(session).start == *row;
            assert!(is_first || seen.contains(&(*play, row - 1)), "turns out of order");
            open.insert(*play, *at);
        }
        assert!(lanes.plays.is_empty() && lanes.timers.is_empty() && lanes.in_flight == 0);
        assert_eq!(lanes.stats.unstuck, 0, "seed {seed}");
    }
}

#[path = "graphs.rs"]
mod graphs;
