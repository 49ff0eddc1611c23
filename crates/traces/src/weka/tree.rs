//! When a session's streams run: who starts whom, who waits for whom.

use super::EPSILON;

/// Start and end of a turn, s, and its place in the file.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Start.
    pub start: f64,
    /// End of the response.
    pub end: f64,
    /// Place in the list of the main agent.
    pub index: u32,
}

/// What a child is spawned by, and what waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bond {
    /// Turn of the root.
    pub spawn: usize,
    /// Turn of the root; none: it runs in the background.
    pub join: Option<usize>,
}

/// The bond of a sub-agent's entry at `index` that ended at `end`; none: no turn of the root stands before it.
pub fn bond_of_entry(root: &[Span], index: u32, end: f64) -> Option<Bond> {
    let before = root.iter().enumerate().filter(|(_, s)| s.index < index);
    let spawn = before.max_by_key(|(_, s)| s.index)?.0;
    let behind = root
        .iter()
        .enumerate()
        .filter(|(_, s)| s.index > index && s.start + EPSILON >= end);
    Some(Bond {
        spawn,
        join: behind.min_by_key(|(_, s)| s.index).map(|(turn, _)| turn),
    })
}

/// The bond of a stream of the flat list.
pub fn bond_of_stream(root: &[Span], first: Span, end: f64) -> Bond {
    let before = |s: &Span| (s.start, s.index) < (first.start, first.index);
    let spawn = root.iter().rposition(before).unwrap_or(0);
    let join = (spawn + 1..root.len()).find(|&k| root[k].start + EPSILON >= end);
    Bond { spawn, join }
}

/// For each turn of each stream: the turns (stream, turn) it has to wait for, so that starts keep their order behind ends.
pub fn barriers(streams: &[&[Span]]) -> Vec<Vec<Vec<(usize, usize)>>> {
    let all = streams.iter().enumerate();
    all.map(|(own, turns)| turns.iter().map(|turn| waits_for(streams, own, turn)).collect())
        .collect()
}

fn waits_for(streams: &[&[Span]], own: usize, turn: &Span) -> Vec<(usize, usize)> {
    let last = |spans: &[Span]| {
        let started = spans.partition_point(|s| s.start < turn.start);
        (0..started).rev().find(|&k| spans[k].end <= turn.start)
    };
    let latest: Vec<(usize, usize)> = streams
        .iter()
        .enumerate()
        .filter(|&(other, _)| other != own)
        .filter_map(|(other, spans)| last(spans).map(|k| (other, k)))
        .collect();
    let span = |&(s, k): &(usize, usize)| streams[s][k];
    let is_implied = |c: &(usize, usize)| {
        let c = span(c);
        latest.iter().map(span).any(|l| c.start < l.start && c.end <= l.start)
    };
    latest.iter().filter(|c| !is_implied(c)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(f64, f64)]) -> Vec<Span> {
        list.iter()
            .enumerate()
            .map(|(i, &(start, end))| Span {
                start,
                end,
                index: i as u32,
            })
            .collect()
    }

    #[test]
    fn spawn_and_join_are_sought_in_the_order_of_the_file() {
        let root = [
            Span {
                start: 0.0,
                end: 1.0,
                index: 0,
            },
            Span {
                start: 5.0,
                end: 6.0,
                index: 2,
            },
            Span {
                start: 9.0,
                end: 10.0,
                index: 3,
            },
        ];
        assert_eq!(
            bond_of_entry(&root, 1, 4.0),
            Some(Bond {
                spawn: 0,
                join: Some(1)
            })
        );
        assert_eq!(
            bond_of_entry(&root, 1, 9.0),
            Some(Bond {
                spawn: 0,
                join: Some(2)
            })
        );
        assert_eq!(bond_of_entry(&root, 4, 4.0), Some(Bond { spawn: 2, join: None }));
        assert_eq!(bond_of_entry(&root[1..], 1, 4.0), None);
        let child = Span {
            start: 0.1,
            end: 5.1,
            index: 9,
        };
        assert_eq!(
            bond_of_stream(&root, child, 5.1),
            Bond {
                spawn: 0,
                join: Some(2)
            }
        );
        assert_eq!(bond_of_stream(&root, Span { start: -1.0, ..child }, 0.5).spawn, 0);
    }

    #[test]
    fn a_turn_waits_for_what_had_ended_and_not_for_what_overlapped() {
        let root = spans(&[(0.0, 1.0), (2.0, 3.0), (4.0, 6.0), (12.0, 13.0)]);
        let a = spans(&[(5.0, 8.0)]);
        let b = spans(&[(6.0, 9.0)]);
        let found = barriers(&[&root, &a, &b]);
        assert_eq!(found[1][0], [(0, 1)]);
        assert_eq!(found[2][0], [(0, 2)]);
        assert_eq!(found[0][3], [(1, 0), (2, 0)]);
        assert!(found[0][..3].iter().all(Vec::is_empty));
    }

    #[test]
    fn of_two_in_a_row_only_the_later_is_waited_for() {
        let (a, b, c) = (spans(&[(0.0, 1.0)]), spans(&[(1.0, 2.0)]), spans(&[(2.0, 3.0)]));
        assert_eq!(barriers(&[&a, &b, &c])[2][0], [(1, 0)]);
    }
}
