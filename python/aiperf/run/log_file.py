"""The run's log file, `logs/aiperf.log`: what was asked, what was noticed, what came out. Never a line per request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiperf.config.model import Config

__all__ = ["open_log"]

_LEVELS = {"TRACE": 5, "NOTICE": 25, "SUCCESS": 25}


class _File(logging.FileHandler):
    """A full disk costs lines of the log: no traceback on the screen, and never the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        pass

    def close(self) -> None:
        with suppress(OSError):  # a full disk: told where the run writes its files
            super().close()


@contextmanager
def open_log(path: Path, config: Config) -> Iterator[logging.Logger]:
    """A logger of its own for this run; secrets never reach it."""
    s = config.service
    name = "TRACE" if s.extra_verbose else "DEBUG" if s.verbose else s.log_level
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger(f"aiperf.run.{path.parent.parent.name}")
    logger.setLevel(_LEVELS.get(name) or logging.getLevelName(name))
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield logger
    except BaseException as error:
        logger.error("ended by %s: %s", type(error).__name__, error)  # noqa: TRY400 - the cause is shown by whoever catches it
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
