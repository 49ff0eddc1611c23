//! Laws of sessions, on a clock of our own and with random plans.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::part::Division;
use crate::phase::{Job, Task};
use crate::plan::{Columns, NONE_U32, Silent};
use crate::settings::{self, Arrival, PhaseKind, Sampling};

struct Case {
    load: Load,
    concurrency: Option<u32>,
    prefill: Option<u32>,
    requests: Option<u64>,
    /// Turns fail with this probability.
    failing: f64,
}

fn random_plan(rng: &mut StdRng, with_silent: bool) -> Plan {
    let mut columns = Columns::default();
    let sessions = rng.random_range(1..12);
    let with_forks = rng.random_bool(0.5);
    let mut first_rows = Vec::new();
    for session in 0..sessions {
        first_rows.push(columns.session.len() as u32);
        for turn in 0..rng.random_range(1..6) {
            columns.session.push(session);
            columns
                .at_ns
                .push(if turn == 0 { i64::from(session) * 1000 } else { -1 });
            columns
                .delay_ns
                .push(if turn == 0 { 0 } else { rng.random_range(0..5_000) });
            // A branch starts after a row of an earlier session; the last turn of a session may wait for rows of earlier ones.
            if with_forks && session > 0 && turn == 0 && rng.random_bool(0.6) {
                columns
                    .after
                    .push(rng.random_range(0..columns.session.len() as u32 - 1));
            }
            columns.after_offsets.push(columns.after.len() as u32);
        }
    }
    let rows = columns.session.len();
    columns.after_offsets.insert(0, 0);
    if !with_forks {
        columns.after_offsets.clear();
    }
    columns.isl = vec![NONE_U32; rows];
    columns.osl = vec![NONE_U32; rows];
    columns.model = vec![0; rows];
    columns.path = vec![0; rows];
    columns.seg_offsets = vec![0; rows + 1];
    if with_silent && rng.random_bool(0.4) {
        let silent: Vec<u32> = (0..rows as u32).filter(|_| rng.random_bool(0.3)).collect();
        columns.silent = Some(Silent {
            sigma: vec![0.5; silent.len()],
            min_ns: vec![0; silent.len()],
            max_ns: vec![10_000; silent.len()],
            rows: silent,
        });
    }
    Plan::new(columns).expect("a valid plan")
}

fn phase_of(case: &Case, plan: &Plan, start: i64) -> Arc<Phase> {
    let settings = settings::Phase {
        name: "test".into(),
        kind: PhaseKind::Profiling,
        load: case.load.clone(),
        concurrency: case.concurrency,
        prefill_concurrency: case.prefill,
        concurrency_ramp: None,
        prefill_ramp: None,
        sampling: Sampling::Sequential,
        requests: case.requests,
        sessions: None,
        duration_ns: None,
        repeat: false,
        grace_ns: None,
        max_error_rate: None,
        cancel: None,
        hold: false,
    };
    Arc::new(Phase::new(0, 0, &settings, Division::WHOLE, plan, 7, start))
}

/// Play a whole phase: responses take random times and fail at random. Checks what must hold at every moment, and returns the
/// rows that were sent.
fn play(seed: u64, case: &Case) -> (Vec<(u64, u32)>, Arc<Phase>, Arc<Plan>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = Arc::new(random_plan(&mut rng, true));
    let continuations = Arc::new(AtomicUsize::new(0));
    let mut sessions = Sessions::new(Arc::clone(&plan), 1, Arc::clone(&continuations));
    let phase = phase_of(case, &plan, 0);
    sessions.begin_phase(Arc::clone(&phase));
    let mut now = 0;
    let mut in_flight: Vec<(i64, Turn, bool)> = Vec::new();
    let mut sent = Vec::new();
    let mut ended_at: HashMap<(u64, u32), i64> = HashMap::new();
    let mut idle = false;
    // The source of a schedule: one start per root, as the controller hands them out.
    let is_rate = matches!(case.load, Load::Rate { .. });
    let mut starts: VecDeque<u32> = VecDeque::new();
    if matches!(case.load, Load::Schedule { .. }) {
        starts.extend((0..plan.num_sessions() as u32).filter(|&s| plan.after(plan.rows(s).start).is_empty()));
    }
    for _ in 0..100_000 {
        let waiting = continuations.load(SeqCst) > 0;
        let task = if is_rate && waiting {
            Some(Task::Turn)
        } else if is_rate && !phase.exhausted.load(SeqCst) {
            Some(Task::Tick)
        } else {
            starts.pop_front().map(|session| Task::Session {
                session,
                epoch: 0,
                number: u64::from(session),
            })
        };
        if let Some(task) = task
            && phase.take_ticket()
        {
            let job = Job::new(now, task);
            if !matches!(task, Task::Turn) {
                phase.active.fetch_add(1, SeqCst);
            }
            if phase.gate.is_none() || matches!(task, Task::Turn) {
                sessions.start(job);
            } else {
                phase.enqueue(job);
            }
        }
        if matches!(case.load, Load::Schedule { .. }) && starts.is_empty() {
            phase.exhausted.store(true, SeqCst);
        }
        sessions.wake(now);
        sessions.pull(1, now);
        while let Some(turn) = sessions.next_turn() {
            let row = turn.row;
            assert!(turn.scheduled <= now, "sent before it was due");
            assert!(!plan.is_silent(row), "a turn that sends nothing was sent");
            for &earlier in plan.after(row).iter().filter(|&&earlier| !plan.is_silent(earlier)) {
                assert!(
                    ended_at.contains_key(&(turn.session_num, earlier)),
                    "sent before what it waits for"
                );
            }
            if turn.turn > 0 && !plan.is_silent(row - 1) {
                let before = ended_at[&(turn.session_num, row - 1)];
                assert!(now >= before + plan.delay_ns(row), "sent within its think time");
            }
            sent.push((turn.session_num, row));
            let is_early = turn.holds_prefill && rng.random_bool(0.5);
            if is_early {
                // Its first token is there at once.
                phase.prefill.as_ref().expect("it holds the gate").leave();
            }
            in_flight.push((now + rng.random_range(0..3_000), turn, is_early));
        }
        if let Some(most) = case.concurrency {
            let open: HashSet<u64> = in_flight.iter().map(|(_, t, _)| t.session_num).collect();
            assert!(open.len() <= most as usize, "{} sessions at once", open.len());
        }
        if let Some(most) = case.prefill {
            let held = in_flight.iter().filter(|(_, _, is_early)| !is_early).count();
            assert!(held <= most as usize, "{held} prefills at once");
        }
        now += 100;
        let (over, left): (Vec<_>, Vec<_>) = in_flight.into_iter().partition(|(end, ..)| *end <= now);
        in_flight = left;
        for (_, turn, is_early) in over {
            if turn.holds_prefill && !is_early {
                phase.prefill.as_ref().expect("it holds the gate").leave();
            }
            ended_at.insert((turn.session_num, turn.row), now);
            let ended = TurnEnd {
                session_id: turn.session_id,
                row: turn.row,
                is_ok: !rng.random_bool(case.failing),
                overflowed: false,
                reply: None,
                connection: None,
                at: now,
            };
            sessions.end_turn(ended);
        }
        idle |= sessions.take_idle();
        if phase.exhausted.load(SeqCst) && phase.active.load(SeqCst) == 0 {
            break;
        }
    }
    assert_eq!(phase.active.load(SeqCst), 0, "sessions are left over (seed {seed})");
    assert!(idle, "the end was not said");
    assert!(sessions.sessions.is_empty() && sessions.trees.is_empty());
    if let Some(gate) = &phase.gate {
        assert!(
            gate.try_enter() && phase.prefill.as_ref().is_none_or(Gate::try_enter),
            "a slot was lost"
        );
    }
    (sent, phase, plan)
}

fn rate() -> Load {
    Load::Rate {
        rate: 1.0,
        arrival: Arrival::Constant,
        smoothness: 1.0,
        ramp: None,
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for load in [Load::Closed {}, Load::Schedule { loop_ns: None }, rate()] {
        for (concurrency, prefill) in [
            (Some(1), None),
            (Some(3), Some(1)),
            (Some(8), Some(2)),
            (None, Some(2)),
            (None, None),
        ] {
            if concurrency.is_none() && matches!(load, Load::Closed {}) {
                continue;
            }
            for failing in [0.0, 0.2] {
                let load = load.clone();
                cases.push(Case {
                    load,
                    concurrency,
                    prefill,
                    requests: None,
                    failing,
                });
            }
        }
    }
    cases
}

#[test]
fn every_turn_is_sent_once_or_counted_as_skipped_and_waits_for_what_it_must() {
    for (number, case) in cases().iter().enumerate() {
        for seed in 0..60 {
            let (sent, phase, plan) = play(seed + 1000 * number as u64, case);
            let unique: HashSet<_> = sent.iter().collect();
            assert_eq!(unique.len(), sent.len(), "a turn was sent twice");
            let skipped = phase.skipped_turns.load(Relaxed) as usize;
            assert_eq!(sent.len() + skipped, plan.num_requests(), "case {number}, seed {seed}");
            if case.failing == 0.0 {
                assert_eq!(skipped, 0, "nothing failed");
            }
        }
    }
}

#[test]
fn a_bound_of_requests_is_kept_to_the_turn() {
    for seed in 0..100 {
        let bound = 1 + seed % 9;
        let case = Case {
            load: Load::Closed {},
            concurrency: Some(2),
            prefill: None,
            requests: Some(bound),
            failing: 0.0,
        };
        let (sent, _, plan) = play(seed, &case);
        assert!(sent.len() as u64 <= bound);
        assert!(
            sent.len() as u64 == bound.min(plan.num_requests() as u64),
            "seed {seed}: {} of {bound}",
            sent.len()
        );
    }
}

#[test]
fn a_phase_that_stops_drops_what_waits_and_gives_its_connections_back() {
    let mut rng = StdRng::seed_from_u64(5);
    let kept = ConnId {
        slot: crate::ids::Slot(3),
        number: 9,
    };
    for seed in 0..50 {
        let plan = Arc::new(random_plan(&mut rng, false));
        let mut sessions = Sessions::new(Arc::clone(&plan), seed, Arc::default());
        let case = Case {
            load: Load::Closed {},
            concurrency: Some(4),
            prefill: Some(1),
            requests: None,
            failing: 0.0,
        };
        let phase = phase_of(&case, &plan, 0);
        sessions.begin_phase(Arc::clone(&phase));
        sessions.pull(1, 0);
        let mut turns: Vec<Turn> = std::iter::from_fn(|| sessions.next_turn()).collect();
        assert_eq!(turns.len(), 1, "one prefill at once");
        phase.stop.store(true, SeqCst);
        sessions.look(10);
        assert_eq!(phase.prefill_waiters.load(SeqCst), 0);
        let turn = turns.pop().expect("one");
        let is_ok = *[true, false].choose(&mut rng).expect("two");
        sessions.end_turn(TurnEnd {
            session_id: turn.session_id,
            row: turn.row,
            is_ok,
            overflowed: false,
            reply: None,
            connection: Some(kept),
            at: 20,
        });
        assert_eq!(sessions.take_released(), Some(kept));
        assert_eq!(phase.active.load(SeqCst), 0);
        assert!(sessions.take_idle() && sessions.next_turn().is_none());
    }
}
