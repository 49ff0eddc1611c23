//! APIs beside chat and completions, one file each. A new one is a file and a line in [`APIS`].

mod audio;
mod embeddings;
mod images;
mod messages;
mod rankings;
mod responses;
mod retrieval;
mod solido;
mod tgi;
mod video;

use crate::api::{Api, Streams};

static APIS: &[&dyn Api] = &[
    &embeddings::Embeddings,
    &responses::Responses,
    &messages::Messages,
    &tgi::Generate,
    &rankings::Cohere,
    &rankings::Nim,
    &rankings::Tei,
    &images::Generations,
    &images::Edits,
    &video::Videos,
    &audio::Transcriptions,
    &retrieval::Infer,
    &solido::Prompt,
];

/// The API that answers requests to this path, and whether it streams.
pub(crate) fn find(path: &[u8]) -> Option<(&'static dyn Api, Streams)> {
    APIS.iter().find_map(|api| Some((*api, api.takes(path)?)))
}

/// The state or the result of a job that one of the APIs took up.
pub(crate) fn job(path: &str, now_ns: u64) -> Option<(&'static str, Vec<u8>)> {
    APIS.iter().find_map(|api| api.job(path, now_ns))
}
