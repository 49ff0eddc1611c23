//! Byte-pair encoding of one piece: of all neighbours, the pair that was learnt first is merged, until none is a token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::vocabulary::Vocabulary;

/// Calls `found` with the ids of `piece`'s tokens, in order. O(n log n) for n bytes.
pub(crate) fn merge(vocabulary: &Vocabulary, piece: &[u8], each: &mut impl FnMut(u32)) {
    let length = piece.len();
    // A part begins at `i` if `end[i]` is not 0; it reaches to there, and the part before it begins at `before[i]`.
    let mut end: Vec<usize> = (1..=length).collect();
    let mut before: Vec<usize> = (0..length).map(|i| i.saturating_sub(1)).collect();
    // Candidates: (rank, start, end). One that was overtaken by another merge is told by its ends and passed over.
    let mut pairs = BinaryHeap::with_capacity(length);
    let candidate = |start: usize, stop: usize| vocabulary.id(&piece[start..stop]).map(|id| Reverse((id, start, stop)));
    pairs.extend((0..length.saturating_sub(1)).filter_map(|i| candidate(i, i + 2)));
    while let Some(Reverse((_, start, stop))) = pairs.pop() {
        let middle = end[start];
        if middle == 0 || middle >= length || end[middle] != stop || middle >= stop {
            continue;
        }
        end[start] = stop;
        end[middle] = 0;
        if stop < length {
            before[stop] = start;
            pairs.extend(candidate(start, end[stop]));
        }
        if start > 0 {
            pairs.extend(candidate(before[start], stop));
        }
    }
    let mut start = 0;
    while start < length {
        // Every byte is a token of its own, and every merge made one.
        if let Some(id) = vocabulary.id(&piece[start..end[start]]) {
            each(id);
        }
        start = end[start];
    }
}
