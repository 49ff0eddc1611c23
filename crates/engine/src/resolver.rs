//! Names resolved anew for each connection (`--dns connection`), on threads of their own: the system's resolver blocks.

use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::shared::{Ask, Msg, Shared};

/// Names resolved at once. A resolver that answers from its cache takes well under a millisecond.
const THREADS: usize = 4;

/// Start the threads. They end when the run is gone.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let (asks, box_of_asks) = channel::<Ask>();
    let box_of_asks = Arc::new(Mutex::new(box_of_asks));
    for n in 0..THREADS {
        let (box_of_asks, shared) = (Arc::clone(&box_of_asks), Arc::downgrade(shared));
        std::thread::Builder::new()
            .name(format!("aiperf-dns-{n}"))
            .spawn(move || {
                loop {
                    let Ok(Ok(ask)) = box_of_asks.lock().map(|b| b.recv()) else {
                        return;
                    };
                    let Some(shared) = shared.upgrade() else {
                        return;
                    };
                    let (found, took) = shared.targets[usize::from(ask.url)].resolve_again(&shared.clock);
                    shared.inboxes[ask.worker].send(Msg::Resolved(ask.conn, found, took));
                }
            })?;
    }
    let _ = shared.resolver.set(asks);
    Ok(())
}
