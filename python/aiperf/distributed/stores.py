"""Where generators hand over their records, if not through Ray: a folder that all nodes share, or a bucket.

Batches are objects of a few MB, `<run>/<generator>/<file>.<offset>`; the head takes them out while the load runs. Credentials are those of each
node's environment (`AWS_…`, `GOOGLE_…`, a role of the machine): they are in no setting and travel nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

__all__ = ["Store", "StoreError", "open_store"]

_Result = TypeVar("_Result")
_TIMEOUT: Final = timedelta(seconds=10)
"""Of one attempt, and of all together: a generator that does not answer for 15 s counts as lost."""


class StoreError(Exception):
    """The store refused, or there is none. The text says which and why."""


class Store(Protocol):
    """Objects by name. StoreError where it cannot be done."""

    def put(self, name: str, data: bytes) -> None:
        """The whole object, or nothing."""

    def take(self, name: str) -> bytes:
        """The object; it is gone afterwards."""

    def close(self, folder: str) -> None:
        """Nothing of this folder is needed any more."""


def open_store(where: str) -> Store:
    """StoreError if what it needs is not installed, or the place cannot be one."""
    parts = urlsplit(where)
    if parts.scheme in {"", "file"}:
        return _Folder(Path(parts.path))
    return _Bucket(where)


class _Folder:
    """On a file system that all nodes share. Another name first: whoever takes an object never sees half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, data: bytes) -> None:
        target = self._path / name
        part = target.with_name(target.name + ".part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(target)
        except OSError as error:
            with suppress(OSError):  # the first error is the one to tell
                part.unlink(missing_ok=True)
            raise StoreError(f"`{target}`: {error.strerror or error}") from error

    def take(self, name: str) -> bytes:
        path = self._path / name
        try:
            data = path.read_bytes()
            path.unlink()
        except OSError as error:
            raise StoreError(f"`{path}`: {error.strerror or error}") from error
        return data

    def close(self, folder: str) -> None:
        at = self._path / folder
        with suppress(OSError):  # what stays there has been read already
            for path in at.iterdir():
                path.unlink()
        with suppress(OSError):  # not empty, or never made
            at.rmdir()


class _Bucket:
    """By obstore, which is imported here alone."""

    def __init__(self, where: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise StoreError(
                f"`{where}` needs obstore, which is not installed: `pip install 'aiperf[store]'`"
            ) from error
        self._where = where
        limits: dict[str, Any] = {
            "client_options": {"timeout": _TIMEOUT, "connect_timeout": timedelta(seconds=3), "allow_http": True},
            "retry_config": {"max_retries": 3, "retry_timeout": _TIMEOUT},
        }
        try:
            self._store = from_url(where, **limits)
        except Exception as error:  # each service has errors of its own; all are said as ours
            raise StoreError(f"`{where}`: {_first_line(error)}") from error

    def put(self, name: str, data: bytes) -> None:
        self._try(lambda: self._store.put(name, data, use_multipart=False), name)

    def take(self, name: str) -> bytes:
        def both() -> bytes:
            data = bytes(self._store.get(name).bytes())
            self._store.delete(name)
            return data

        return self._try(both, name)

    def close(self, folder: str) -> None:
        def empty() -> None:
            for batch in self._store.list(folder):
                self._store.delete([found["path"] for found in batch])

        with suppress(StoreError):  # what stays there has been read already
            self._try(empty, folder)

    def _try(self, action: Callable[[], _Result], name: str) -> _Result:
        try:
            return action()
        except Exception as error:  # as above
            raise StoreError(f"`{self._where.rstrip('/')}/{name}`: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
