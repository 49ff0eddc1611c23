//! Pieces that a thread reads while the ones before are worked on.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use arrow_array::RecordBatch;

use crate::error::RecordsError;
use crate::source::Pieces;

/// The same pieces. At most one is read ahead: memory holds one more.
pub(crate) fn ahead(pieces: Pieces) -> Pieces {
    let (sender, receiver) = sync_channel(0);
    let reading = thread::Builder::new().name("aiperf-read".to_owned()).spawn(move || {
        for piece in pieces {
            // Whoever asked has what it wanted.
            if sender.send(piece).is_err() {
                return;
            }
        }
    });
    match reading {
        Ok(_) => Box::new(Ahead(receiver)),
        Err(source) => Box::new(std::iter::once(Err(RecordsError::Io {
            path: "reading thread".into(),
            source,
        }))),
    }
}

struct Ahead(Receiver<Result<RecordBatch, RecordsError>>);

impl Iterator for Ahead {
    type Item = Result<RecordBatch, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().ok()
    }
}
