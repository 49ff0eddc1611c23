//! Agents in a flat list: which requests continue which, by their blocks and times.
//!
//! A *chain* is a list of requests each of which extends the one before; contexts that were edited are joined in a second pass.
//! The rules and their numbers are those of AIPerf's loader, so that its corpora give the same conversations.

use std::collections::BTreeSet;

use super::{EPSILON, Request};
use crate::ids::Seen;

/// Numbers of the rules.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Off: one stream, in order of time.
    pub split: bool,
    /// A chain of so many requests at most can be an auxiliary one.
    pub aux_max_requests: usize,
    /// … if its prompt is below this share of the main agent's largest,
    pub aux_isl_ratio: f64,
    /// … or below this many tokens,
    pub aux_isl_floor: u32,
    /// … or another model's.
    pub aux_cross_model: bool,
    /// … or a reduction: fewer output tokens than this,
    pub aux_reduction_osl_max: u32,
    /// … and so many times more input.
    pub aux_reduction_ratio: u32,
    /// So many overlapping chains of one fork are a worker group.
    pub worker_group_min: usize,
    /// A context that was edited is taken up within this time, s,
    pub seam_max_gap: f64,
    /// … or has this share of the old one.
    pub seam_min_overlap: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            split: true,
            aux_max_requests: 1,
            aux_isl_ratio: 0.1,
            aux_isl_floor: 16_384,
            aux_cross_model: true,
            aux_reduction_osl_max: 4_000,
            aux_reduction_ratio: 20,
            worker_group_min: 3,
            seam_max_gap: 3_600.0,
            seam_min_overlap: 0.5,
        }
    }
}

/// One agent: its requests by their place in the list, in order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Places in the list given.
    pub members: Vec<usize>,
    /// The request whose context it took over, and how many blocks of it.
    pub fork: Option<(usize, u32)>,
    /// What it is called behind the main agent's name: `aux:000`, `wg:000_001`, `fa:002`; empty for the main agent.
    pub name: String,
}

struct Open {
    members: Vec<usize>,
    tail: Option<usize>,
    fork: Option<(usize, u32)>,
}

/// The chains of a list, the main agent's first, the others by their first request.
pub fn split(requests: &[Request], rules: &Rules) -> Vec<Chain> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    let key = |i: usize| (requests[i].t, requests[i].index);
    order.sort_by(|&a, &b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    let main = |members: Vec<usize>| Chain {
        members,
        fork: None,
        name: String::new(),
    };
    if !rules.split || requests.len() < 2 {
        return if order.is_empty() {
            Vec::new()
        } else {
            vec![main(order)]
        };
    }
    let preamble = order.first().copied().filter(|&first| is_preamble(requests, first));
    if preamble.is_some() {
        order.remove(0);
    }
    let mut chains = extend(requests, &order);
    join_edited(requests, rules, &mut chains);
    chains.retain(|c| !c.members.is_empty());
    for chain in &mut chains {
        chain
            .members
            .sort_by(|&a, &b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    }
    chains.sort_by(|a, b| {
        key(a.members[0])
            .partial_cmp(&key(b.members[0]))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let names = names(requests, rules, &chains);
    let mut out: Vec<Chain> = chains
        .into_iter()
        .zip(names)
        .map(|(c, name)| Chain {
            members: c.members,
            fork: c.fork,
            name,
        })
        .collect();
    if let (Some(first), Some(main)) = (preamble, out.first_mut()) {
        main.members.insert(0, first);
    }
    out
}

/// A first request that has nothing to do with the rest: a title, a quota check.
fn is_preamble(requests: &[Request], first: usize) -> bool {
    let ids = &requests[first].ids;
    let mut others = requests.iter().enumerate().filter(|&(i, _)| i != first).map(|(_, r)| r);
    if ids.is_empty() || others.clone().any(|r| r.ids.common_prefix(ids) > 0) {
        return false;
    }
    if requests[first].output <= 64 {
        return true;
    }
    let mut seen = Seen::default();
    seen.add(ids);
    !others.any(|r| seen.has_any(&r.ids))
}

/// First pass: each request extends a chain, or begins one.
fn extend(requests: &[Request], order: &[usize]) -> Vec<Open> {
    let mut chains: Vec<Open> = Vec::new();
    for &number in order {
        let request = &requests[number];
        let begin = |fork| Open {
            members: vec![number],
            tail: (!request.ids.is_empty()).then_some(number),
            fork,
        };
        if request.ids.is_empty() {
            match chains.first_mut() {
                Some(chain) => chain.members.push(number),
                None => chains.push(begin(None)),
            }
            continue;
        }
        if let [chain] = &mut chains[..]
            && chain.tail.is_none()
        {
            chain.members.push(number);
            chain.tail = Some(number);
            continue;
        }
        let mut longest: Option<(u32, usize)> = None;
        let mut nearest: Option<(u32, u32, usize)> = None;
        for (number, chain) in chains.iter().enumerate() {
            let Some(t) = chain.tail else { continue };
            let tail = &requests[t];
            let same = tail.ids.common_prefix(&request.ids);
            let is_whole = same == tail.ids.len();
            if is_whole
                && tail.model == request.model
                && tail.end() <= request.t + EPSILON
                && longest.is_none_or(|(n, _)| tail.ids.len() > n)
            {
                longest = Some((tail.ids.len(), number));
            }
            if same > 0 && nearest.is_none_or(|(n, len, _)| (same, tail.ids.len()) > (n, len)) {
                nearest = Some((same, tail.ids.len(), number));
            }
        }
        if let Some((_, c)) = longest {
            chains[c].members.push(number);
            chains[c].tail = Some(number);
        } else {
            let fork = nearest.and_then(|(same, _, c)| chains[c].tail.map(|t| (t, same)));
            chains.push(begin(fork));
        }
    }
    chains
}

/// Second pass: the agent whose context was edited goes on in one of the chains that left it.
fn join_edited(requests: &[Request], rules: &Rules, chains: &mut [Open]) {
    let mut armed: BTreeSet<(u32, usize)> = chains
        .iter()
        .filter_map(|c| c.fork.map(|(t, _)| (requests[t].index, t)))
        .collect();
    while let Some((_, point)) = armed.pop_first() {
        let Some(home) = chains.iter().position(|c| c.tail == Some(point)) else {
            continue;
        };
        let tail = &requests[point];
        let mut best: Option<(usize, u32, (f64, u32))> = None;
        for (number, chain) in chains.iter().enumerate() {
            let (Some((at, depth)), Some(&first)) = (chain.fork, chain.members.first()) else {
                continue;
            };
            let first = &requests[first];
            let gap = first.t - tail.end();
            let is_far =
                gap > rules.seam_max_gap && f64::from(depth) < rules.seam_min_overlap * f64::from(tail.ids.len());
            if at != point || depth == 0 || number == home || first.model != tail.model || gap < -EPSILON || is_far {
                continue;
            }
            let start = (first.t, first.index);
            if best.is_none_or(|(_, d, s)| depth > d || (depth == d && start < s)) {
                best = Some((number, depth, start));
            }
        }
        let Some((elected, ..)) = best else { continue };
        let taken = std::mem::take(&mut chains[elected].members);
        let new_tail = chains[elected].tail.take();
        chains[elected].fork = None;
        chains[home].members.extend(taken);
        chains[home].tail = new_tail;
        let Some(end) = new_tail else { continue };
        let mut moved = false;
        for chain in chains.iter_mut() {
            let Some(&first) = chain
                .members
                .first()
                .filter(|_| chain.fork.is_some_and(|(at, _)| at == point))
            else {
                continue;
            };
            let same = requests[first].ids.common_prefix(&requests[end].ids);
            if same > 0 {
                chain.fork = Some((end, same));
                moved = true;
            }
        }
        if moved || chains.iter().any(|c| c.fork.is_some_and(|(at, _)| at == end)) {
            armed.insert((requests[end].index, end));
        }
    }
}

/// What each chain is called; the first one is the main agent's.
fn names(requests: &[Request], rules: &Rules, chains: &[Open]) -> Vec<String> {
    let Some(main) = chains.first() else {
        return Vec::new();
    };
    let model = requests[main.members[0]].model;
    let largest = main.members.iter().map(|&i| requests[i].input).max().unwrap_or(0);
    let small = rules
        .aux_isl_floor
        .max((rules.aux_isl_ratio * f64::from(largest)).floor() as u32);
    let is_aux = |chain: &Open| {
        let request = &requests[chain.members[0]];
        let is_reduction = request.output > 0
            && request.output < rules.aux_reduction_osl_max
            && request.input >= rules.aux_isl_floor
            && u64::from(request.input) > u64::from(rules.aux_reduction_ratio) * u64::from(request.output);
        chain.members.len() <= rules.aux_max_requests
            && ((rules.aux_cross_model && request.model != model) || request.input < small || is_reduction)
    };
    let mut names: Vec<String> = chains
        .iter()
        .enumerate()
        .map(|(c, chain)| match c {
            0 => String::new(),
            _ if is_aux(chain) => format!("aux:{:03}", c - 1),
            _ => format!("fa:{:03}", c - 1),
        })
        .collect();
    let span = |c: usize| {
        let first = requests[chains[c].members[0]].t;
        let last = chains[c]
            .members
            .iter()
            .map(|&i| requests[i].end())
            .fold(first, f64::max);
        (first, last)
    };
    // Groups: chains of one fork point whose times overlap, directly or through others.
    let mut candidates: Vec<usize> = (1..chains.len())
        .filter(|&c| names[c].starts_with("fa") && chains[c].fork.is_some_and(|(_, depth)| depth > 0))
        .collect();
    candidates.sort_by_key(|&c| (chains[c].fork.map(|f| f.0), c));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut reach = f64::NEG_INFINITY;
    for &number in &candidates {
        let (first, last) = span(number);
        match groups.last_mut() {
            Some(group) if chains[group[0]].fork.map(|f| f.0) == chains[number].fork.map(|f| f.0) && first < reach => {
                group.push(number);
                reach = reach.max(last);
            }
            _ => {
                groups.push(vec![number]);
                reach = last;
            }
        }
    }
    groups.retain(|g| g.len() >= rules.worker_group_min);
    groups.sort_by_key(|g| g[0]);
    for (g, group) in groups.iter().enumerate() {
        for (m, &c) in group.iter().enumerate() {
            names[c] = format!("wg:{g:03}_{m:03}");
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    fn request(index: u32, t: f64, ids: Ids, api: f64) -> Request {
        let input = ids.len() * 64;
        Request {
            t,
            index,
            input,
            output: 5,
            ids,
            api_time: Some(api),
            ..Request::default()
        }
    }

    fn ids(ranges: &[std::ops::RangeInclusive<u32>]) -> Ids {
        ranges.iter().cloned().flatten().collect()
    }

    #[test]
    fn an_overlapping_request_is_another_agents() {
        let list = [
            request(0, 0.0, ids(&[1..=400]), 5.0),
            request(1, 4.0, ids(&[1..=500]), 5.0),
        ];
        let found = split(&list, &Rules::default());
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].fork, Some((0, 400)));
    }

    #[test]
    fn an_edited_context_goes_on_unless_it_is_much_later_and_much_shorter() {
        for (gap, kept, is_same) in [
            (5.0, 3, true),
            (3601.0, 49, false),
            (3599.0, 49, true),
            (3601.0, 50, true),
        ] {
            let list = [
                request(0, 0.0, ids(&[1..=100]), 1.0),
                request(1, 1.0 + gap, ids(&[1..=kept, 200..=300]), 1.0),
            ];
            assert_eq!(split(&list, &Rules::default()).len() == 1, is_same, "{gap} {kept}");
        }
    }

    #[test]
    fn chains_that_left_the_old_end_are_hung_on_the_new_one() {
        // 0 → 1 (edited) → 2 (edited again): each time the deepest chain goes on.
        let list = [
            request(0, 0.0, ids(&[1..=100]), 1.0),
            request(1, 2.0, ids(&[1..=90, 201..=220]), 1.0),
            request(2, 4.0, ids(&[1..=80, 301..=340]), 1.0),
        ];
        let found = split(&list, &Rules::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].members, [0, 1, 2]);
    }

    #[test]
    fn three_that_overlap_are_a_worker_group() {
        let mut list = vec![request(0, 0.0, ids(&[1..=300]), 1.0)];
        for k in 0..3 {
            let mut request = request(
                k + 1,
                2.0 + f64::from(k),
                ids(&[1..=280, 1000 * (k + 1)..=1000 * (k + 1) + 9]),
                9.0,
            );
            request.output = 5000;
            list.push(request);
        }
        let mut last = request(4, 30.0, ids(&[1..=310]), 1.0);
        last.output = 5000;
        list.push(last);
        let names: Vec<String> = split(&list, &Rules::default()).into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["", "wg:000_000", "wg:000_001", "wg:000_002"]);
    }

    #[test]
    fn off_is_one_stream_in_order_of_time() {
        let list = [request(0, 5.0, ids(&[1..=4]), 1.0), request(1, 1.0, ids(&[7..=9]), 9.0)];
        let rules = Rules {
            split: false,
            ..Rules::default()
        };
        assert_eq!(split(&list, &rules)[0].members, [1, 0]);
    }
}
