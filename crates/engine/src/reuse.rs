//! May a connection serve another request? One rule, for every way a request can end.

use crate::error::ErrorKind;
use crate::settings::Reuse;

/// What is left of a request that has ended.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // independent facts, each of which can forbid it
pub(crate) struct Remains {
    /// The user's strategy.
    pub(crate) reuse: Reuse,
    /// How the request ended.
    pub(crate) kind: ErrorKind,
    /// The response was read to its end, says keep-alive, and nothing came behind it.
    pub(crate) response_is_over: bool,
    /// All of the request was written: otherwise the server would take the next one for the rest of its body.
    pub(crate) request_is_out: bool,
    /// The server has closed its side.
    pub(crate) has_hung_up: bool,
}

impl Remains {
    pub(crate) fn may_be_used_again(self) -> bool {
        // The server refused, and the connection is as good as before; with any other failure it is not known what comes next.
        let is_known = matches!(
            self.kind,
            ErrorKind::Ok | ErrorKind::HttpStatus | ErrorKind::ContextOverflow
        );
        self.reuse != Reuse::Never && is_known && self.response_is_over && self.request_is_out && !self.has_hung_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_alone_forbids_it() {
        let good = Remains {
            reuse: Reuse::Pooled,
            kind: ErrorKind::Ok,
            response_is_over: true,
            request_is_out: true,
            has_hung_up: false,
        };
        let table = [
            (good, true),
            (
                Remains {
                    reuse: Reuse::Sticky,
                    ..good
                },
                true,
            ),
            (
                Remains {
                    kind: ErrorKind::HttpStatus,
                    ..good
                },
                true,
            ),
            (
                Remains {
                    reuse: Reuse::Never,
                    ..good
                },
                false,
            ),
            (
                Remains {
                    response_is_over: false,
                    ..good
                },
                false,
            ),
            (
                Remains {
                    request_is_out: false,
                    ..good
                },
                false,
            ),
            (
                Remains {
                    has_hung_up: true,
                    ..good
                },
                false,
            ),
        ];
        for (remains, expected) in table {
            assert_eq!(remains.may_be_used_again(), expected, "{remains:?}");
        }
        for kind in [
            ErrorKind::Timeout,
            ErrorKind::Cut,
            ErrorKind::Malformed,
            ErrorKind::ErrorInReply,
            ErrorKind::EmptyReply,
            ErrorKind::Cancelled,
            ErrorKind::Grace,
            ErrorKind::Interrupted,
            ErrorKind::Send,
        ] {
            assert!(!Remains { kind, ..good }.may_be_used_again(), "{kind:?}");
        }
    }
}
