//! Engine mode, live: the model's events become chunks of the connections that wait for them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::active::Stage;
use crate::batching::{EngineEvent, EngineEventKind, EngineRequest};
use crate::conn::Conn;
use crate::faults::FaultKind;
use crate::generate;
use crate::timer::ms;
use crate::worker::Worker;

/// Bits of a request's id in the model that tell its slot; the generation is in the others. Thousands of tokens a step find
/// their connections by it, without a map.
const SLOT_BITS: u32 = 24;

impl Worker {
    /// Hands a request to the engine.
    pub(crate) fn submit(&mut self, slot: usize, conn: &mut Conn) {
        let shared = Arc::clone(&self.shared);
        let Some(active) = conn.active.as_deref_mut() else {
            return;
        };
        let Some(live) = &mut self.live else { return };
        let fault = active.fault.and_then(|index| shared.options.faults.get(index));
        if fault.is_some_and(|fault| fault.kind == FaultKind::Never) {
            active.admitted = Some(active.received);
            active.stage = Stage::Hang;
            shared.counters.running.fetch_add(1, Relaxed);
            return;
        }
        let delay = fault
            .filter(|fault| fault.kind == FaultKind::Slow)
            .map_or(0, |fault| ms(fault.ms));
        let id = active.generation << SLOT_BITS | slot as u64;
        let request = EngineRequest {
            id,
            prompt_tokens: active.prompt_tokens.unwrap_or(1),
            output_tokens: active.script.total().max(1),
            block_hashes: std::mem::take(&mut active.block_hashes),
        };
        // Requests over the context limit have been refused before; one at its very edge is cut by the model's.
        if live.submit_after(active.received, delay, request).is_err() {
            active.stage = Stage::Hang;
            return;
        }
        active.engine_id = Some(id);
        active.stage = Stage::Engine;
        active.in_queue = true;
        shared.counters.waiting.fetch_add(1, Relaxed);
        generate::push_early(conn, &shared);
    }

    /// Lets the engine catch up with the clock and sends what it has made.
    pub(crate) fn run_engine(&mut self) {
        let Some(live) = &mut self.live else { return };
        let mut events = std::mem::take(&mut self.engine_events);
        live.advance(self.shared.clock.now(), &mut events);
        for event in events.drain(..) {
            self.on_engine_event(event);
        }
        self.engine_events = events;
    }

    fn on_engine_event(&mut self, event: EngineEvent) {
        let slot = (event.id & ((1 << SLOT_BITS) - 1)) as usize;
        self.with_active(slot, event.id >> SLOT_BITS, |worker, conn| {
            let shared = Arc::clone(&worker.shared);
            let Some(active) = conn.active.as_deref_mut() else {
                return;
            };
            match event.kind {
                EngineEventKind::Scheduled { cached_tokens } => {
                    active.cached_tokens = Some(cached_tokens);
                    active.admitted = Some(event.at_ns);
                    active.in_queue = false;
                    shared.counters.waiting.fetch_sub(1, Relaxed);
                    shared.counters.running.fetch_add(1, Relaxed);
                    shared
                        .counters
                        .observe_queue(event.at_ns.saturating_sub(active.received));
                }
                EngineEventKind::Token { is_last } => {
                    active.mark_made(event.at_ns);
                    if is_last {
                        active.engine_id = None;
                    }
                    generate::produce_tokens(conn, &shared, worker.scratch(), is_last);
                }
                EngineEventKind::Left { kv } => active.kv = Some(kv),
            }
        });
    }

    /// Copies the model's figures to where `/metrics` reads them; returns the requests running and waiting.
    pub(crate) fn publish_engine(&self) -> (u64, u64) {
        let counters = &self.shared.counters;
        let Some(live) = &self.live else {
            return (counters.running.load(Relaxed), counters.waiting.load(Relaxed));
        };
        let gauges = live.gauges();
        counters.preemptions.store(gauges.preemptions, Relaxed);
        counters.prefix_queries.store(gauges.prefix_queries, Relaxed);
        counters.prefix_hits.store(gauges.prefix_hits, Relaxed);
        counters.tier_queries.store(gauges.tier_queries, Relaxed);
        counters.tier_hits.store(gauges.tier_hits, Relaxed);
        counters.swapped.store(gauges.swapped as u64, Relaxed);
        counters.kv_millionths.store((gauges.kv_usage * 1e6) as u64, Relaxed);
        (gauges.running as u64, gauges.waiting as u64)
    }
}
