//! What the engine records of a response.

use std::sync::LazyLock;

use aiperf_engine::extract::Extractor;
use aiperf_engine::reply::{Progress, Reply, Rules, Stamps};
use aiperf_engine::settings::{Framing, Pointers};

#[path = "../../crates/engine/tests/player/mod.rs"]
mod player;

/// All that may be kept of a response is.
fn rules(framing: Framing) -> Rules {
    let pointers = Pointers {
        reasoning: vec!["/choices/0/delta/reasoning_content".into()],
        ..player::pointers("/choices/0/delta/content")
    };
    Rules {
        stream: Extractor::new(&pointers).expect("valid pointers"),
        plain: Extractor::new(&pointers).expect("valid pointers"),
        think_tags: true,
        keep_events: true,
        keep_head: true,
        ..player::rules(framing, true)
    }
}

/// Of each framing.
pub static RULES: LazyLock<[Rules; 3]> = LazyLock::new(|| [Framing::Sse, Framing::Ndjson, Framing::Plain].map(rules));

/// What is recorded of a response that comes in these pieces.
pub fn play(pieces: impl Iterator<Item = impl AsRef<[u8]>>, rules: &Rules) -> String {
    let mut reply = Reply::default();
    reply.reset(true);
    let stamps = |user: i64| Stamps {
        user,
        kernel: None,
        stall: 0,
        is_followed: false,
    };
    let mut progress = Progress::More;
    for (i, piece) in pieces.enumerate() {
        progress = reply.feed(piece.as_ref(), stamps(1 + i as i64), rules);
        if progress != Progress::More {
            break;
        }
    }
    if progress == Progress::More {
        progress = reply.end(stamps(1 << 20), rules);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match progress {
        Progress::More => unreachable!("the connection has ended"),
        Progress::Failed(kind, _) => format!("{kind:?}"),
        Progress::Done { .. } => format!(
            "{} {} {} {:?} {:?} {} {}",
            text(&reply.text),
            text(&reply.reasoning),
            text(&reply.tool),
            reply.finish,
            reply.usage,
            reply.num_content,
            reply.is_whole
        ),
    }
}
