//! When tokens arrive, and at what rate: steps of the levels of `aiperf.metrics.sweep`.

use super::{ContentRow, Sink};

/// Integral of a sum of steps over equal cells of a time.
#[derive(Debug, Clone)]
pub struct FlowCells {
    begin: f64,
    per_ns: f64,
    /// (cells,) sum of the steps in each cell.
    pub steps: Vec<f64>,
    /// (cells,) sum of the steps in each cell, each times the share of the cell that is after it.
    pub rest: Vec<f64>,
}

impl FlowCells {
    fn new(begin: f64, end: f64, cells: usize) -> Self {
        Self {
            begin,
            per_ns: 1.0 / ((end - begin) / cells as f64),
            steps: vec![0.0; cells],
            rest: vec![0.0; cells],
        }
    }

    /// The cell of a time, and the share of the cell that is after it; times before the first cell are at its begin.
    fn place(&self, ns: i64) -> (usize, f64) {
        let cells = self.steps.len();
        let position = ((ns as f64 - self.begin) * self.per_ns).clamp(0.0, cells as f64);
        let cell = (position as usize).min(cells - 1);
        (cell, (cell + 1) as f64 - position)
    }

    fn add(&mut self, (cell, left): (usize, f64), step: f64) {
        self.steps[cell] += step;
        self.rest[cell] += step * left;
    }
}

/// Steps of the decode rate and of the tokens that have arrived: kept one by one, or as sums over cells.
#[derive(Debug)]
pub struct Flow {
    /// Instants, ns of run time; empty with cells.
    pub times: Vec<i64>,
    /// What the decode rate changes by at each, tokens/s.
    pub rate_steps: Vec<f64>,
    /// Tokens that arrive at each.
    pub token_steps: Vec<f64>,
    /// Sums over cells: of the rate, and of tokens.
    pub cells: Option<(FlowCells, FlowCells)>,
    instants: Vec<(i64, f64)>,
}

impl Flow {
    /// With `cells`: sums over so many equal parts of the time from `begin` to `end`, ns of run time.
    pub fn new(begin: f64, end: f64, cells: Option<usize>) -> Self {
        Self {
            times: Vec::new(),
            rate_steps: Vec::new(),
            token_steps: Vec::new(),
            cells: cells.map(|num| {
                let cells = FlowCells::new(begin, end, num.max(1));
                (cells.clone(), cells)
            }),
            instants: Vec::new(),
        }
    }
}

impl Sink for Flow {
    fn add(&mut self, row: &ContentRow<'_>) {
        // Chunks that came at the same instant are one.
        self.instants.clear();
        let mut before = i64::MIN;
        for (&ns, tokens) in row.ns.iter().zip(row.tokens()) {
            match self.instants.last_mut() {
                Some((_, sum)) if ns <= before => *sum += tokens,
                _ => self.instants.push((ns, tokens)),
            }
            before = ns;
        }
        // At an instant the rate of its own gap ends and the next gap's begins; the first has no gap.
        let mut rate = 0.0;
        for (i, &(ns, tokens)) in self.instants.iter().enumerate() {
            let next = match self.instants.get(i + 1) {
                Some(&(later, more)) => more * 1e9 / (later - ns) as f64,
                None => 0.0,
            };
            let step = next - rate;
            rate = next;
            if let Some((rates, arrived)) = &mut self.cells {
                let place = rates.place(ns);
                rates.add(place, step);
                arrived.add(place, tokens);
            } else {
                self.times.push(ns);
                self.rate_steps.push(step);
                self.token_steps.push(tokens);
            }
        }
    }
}
