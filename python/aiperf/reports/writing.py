"""Files of a run: each is there whole or not at all, and one that cannot be written costs itself, never another.

What failed is said at once, kept in `run.json`, and makes the exit code at least 1.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from aiperf.errors import AIPerfError, Note
from aiperf.observer import Observer
from aiperf.reports import Content

__all__ = ["Outputs", "part_of", "reason_of", "write_pieces", "write_text", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Under another name first, so that a reader (or a full disk) never leaves half of it. Pipes and devices are written to."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            part.unlink()
        raise


def write_text(path: Path, text: str) -> Path:
    """Whole or not at all."""
    write_whole(path, text.encode("utf-8", "replace"))
    return path


def write_pieces(path: Path, pieces: Iterator[bytes]) -> None:
    """A file that gets its name when it is complete."""
    part = part_of(path)
    try:
        with part.open("wb") as out:
            for piece in pieces:
                out.write(piece)
        part.replace(path)
    finally:
        with suppress(OSError):  # it has its own name now, or costs space only
            part.unlink()


def part_of(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f"{path.name}.part")


def reason_of(error: Exception) -> str:
    """One line: the system's reason, the message of an error of ours, or where a bug is."""
    if isinstance(error, AIPerfError):
        return error.message
    if isinstance(error, OSError):
        return error.strerror or str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"internal error: {type(error).__name__}: {error}{place}"


class Outputs:
    """`written`: (what, path) of the files that are there; `problems`: a note per file that is not."""

    def __init__(self, observer: Observer) -> None:
        self.written: list[tuple[str, Path]] = []
        self.problems: list[Note] = []
        self._observer = observer

    def put(self, what: str, path: Path, make: Callable[[], Content]) -> None:
        """Make the content and write it; an iterator's pieces as they come, a mapping's as the files of a folder."""
        with self.attempt(what, path):
            content = make()
            if content is None:
                return
            if isinstance(content, Mapping):
                path.mkdir(parents=True, exist_ok=True)
                for name, data in content.items():
                    write_whole(path / name, data)
            elif isinstance(content, str | bytes):
                write_whole(path, content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
            else:
                write_pieces(path, content)
            self.written.append((what, path))

    @contextmanager
    def attempt(self, what: str, path: Path) -> Iterator[None]:
        """Whatever goes wrong within is about this file."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one file must not cost the others, whatever is wrong with it
            self.fail(what, path, error)

    def fail(self, what: str, path: Path, error: Exception) -> None:
        text = f"error: cannot write the {what} to `{path}`: {reason_of(error)}"
        note = Note("file_failed", text, {"what": what, "path": str(path), "reason": reason_of(error)})
        self.problems.append(note)
        self._observer.note(text)
