//! Laws of recordings whose streams start and wait for each other in any way, and of lanes that several generators share.

use std::collections::BTreeSet;

use super::*;

impl Recording {
    /// `gates`: (row, what it waits for, only until that is sent, and so many seconds more).
    fn graph(mut self, gates: &[(u32, u32, bool, i64)], keeps_times: bool) -> Arc<Plan> {
        self.agents.gate_at_send = gates.iter().map(|g| u8::from(g.2)).collect();
        self.agents.gate_delay_ns = gates.iter().map(|g| g.3 * S).collect();
        self.agents.keeps_times = keeps_times;
        let pairs: Vec<(u32, u32)> = gates.iter().map(|g| (g.0, g.1)).collect();
        assert!(pairs.is_sorted());
        self.plan(&pairs, &[])
    }
}

/// Root 0: rows 0, 1. Stream 1: row 2, when row 0 is sent. Stream 2: row 3, 2 s after the end of row 2.
fn grandchild(gates: &[(u32, u32, bool, i64)], keeps_times: bool) -> Arc<Plan> {
    let mut r = Recording::default();
    r.stream(None, None, &[0, 20]);
    r.stream(Some(0), Some((0, true, 1)), &[1]);
    r.stream(Some(0), Some((2, false, 2)), &[4]);
    r.graph(gates, keeps_times)
}

fn one_lane(plan: &Plan) -> Arc<Phase> {
    phase(
        lanes_of(vec![whole(0, 0, plan)], &[0]),
        PhaseKind::Profiling,
        None,
        0,
        plan,
    )
}

#[test]
fn a_stream_may_be_started_by_any_other_of_its_tree() {
    let plan = grandchild(&[], false);
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &one_lane(&plan), NEVER, second);
    assert_eq!(rows_at(&sent), [(0, 0), (2, 1), (3, 4), (1, 20)]);
}

#[test]
fn what_a_lost_stream_would_have_started_is_not_waited_for() {
    let plan = grandchild(&[(1, 3, false, 0)], false);
    let mut lanes = Lanes::new(Arc::clone(&plan), 1);
    let sent = run(&mut lanes, &one_lane(&plan), NEVER, |row| (S, row != 2, row == 2));
    assert_eq!(rows_at(&sent), [(0, 0), (2, 1), (1, 20)]);
    assert_eq!(lanes.stats.unstuck, 0);
}

#[test]
fn a_gate_counts_from_the_sending_or_the_end_of_the_real_request() {
    for (at_send, expected) in [(true, 1 + 30), (false, 1 + 8 + 30)] {
        let plan = grandchild(&[(1, 2, at_send, 30)], false);
        let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &one_lane(&plan), NEVER, |row| {
            (if row == 2 { 8 * S } else { S }, true, false)
        });
        let at: HashMap<u32, i64> = rows_at(&sent).into_iter().collect();
        assert_eq!(at[&1], expected);
    }
}

#[test]
fn idle_time_that_is_left_out_is_not_waited_for_again_behind_a_gate() {
    let plan = grandchild(&[(1, 2, false, 100)], true);
    let mut load = lanes_of(vec![whole(0, 0, &plan)], &[0]);
    load.idle_cap_ns = Some(5 * S);
    let p = phase(load, PhaseKind::Profiling, None, 0, &plan);
    let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &p, NEVER, second);
    assert_eq!(rows_at(&sent), [(0, 0), (2, 1), (3, 4), (1, 10)]);
}

#[test]
fn a_row_that_keeps_its_time_is_not_due_before_it() {
    for (keeps_times, expected) in [(false, [0, 1, 3, 19]), (true, [0, 1, 4, 20])] {
        let plan = grandchild(&[], keeps_times);
        let fast = |_| (S / 10, true, false);
        let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &one_lane(&plan), NEVER, fast);
        assert_eq!(sent.iter().map(|s| s.0 / S).collect::<Vec<_>>(), expected);
    }
}

fn shared(parts: u64, index: u64, load: &Settings, plan: &Plan) -> Arc<Phase> {
    let mut settings = phase(load.clone(), PhaseKind::Profiling, None, 0, plan)
        .settings
        .clone();
    settings.concurrency = Some(load.starts.len() as u32);
    settings.sessions = Some(17);
    let part = settings::Part {
        index: index as u32,
        of: parts as u32,
        salt: 0,
        start_wall_ns: None,
        barrier: false,
    };
    let division = Division::new(Some(&part), &settings);
    Arc::new(Phase::new(0, 1, &settings, division, plan, 7, 0))
}

/// Several generators together send what one sends, at the same times, marks included, whatever the number of lanes.
#[test]
fn parts_of_lanes_are_the_lanes_of_one_generator() {
    let mut recording = Recording::default();
    let mut roots = Vec::new();
    for k in 0..5 {
        let base = recording.columns.session.len() as u32;
        let root = recording.stream(None, None, &[k, 9 + k, 17]);
        recording.stream(Some(root), Some((base, true, 2)), &[2 + k, 6 + k]);
        roots.push(root);
    }
    let plan = recording.plan(&[], &[]);
    for lanes in 1..6u32 {
        let starts = (0..lanes)
            .map(|l| LaneStart {
                draw: u64::from(l),
                ..within(&plan, l, roots[l as usize], 4)
            })
            .collect();
        let mut load = lanes_of(starts, &roots);
        load.wrap = true;
        let all = |parts: u64| {
            let mut rows = BTreeSet::new();
            let mut first = i64::MAX;
            for index in 0..parts {
                let p = shared(parts, index, &load, &plan);
                let sent = run(&mut Lanes::new(Arc::clone(&plan), 1), &p, NEVER, second);
                first = sent.iter().map(|s| s.0).min().unwrap_or(first).min(first);
                rows.extend(sent.iter().map(|s| (s.3, s.2, s.4)));
            }
            (rows, first)
        };
        let whole = all(1);
        assert_eq!(whole.0.iter().map(|r| r.0).collect::<BTreeSet<_>>().len(), 17);
        for parts in 2..5 {
            assert_eq!(all(parts), whole, "{lanes} lanes, {parts} parts");
        }
    }
}
