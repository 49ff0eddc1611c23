"""Lines of a plain, `.gz` or `.zst` file as UTF-8, whatever encoding its byte order mark tells.

Compressed files are known by their first bytes, not by their names. `.gz` is read as a stream, so that a long trace never is
in memory as text; Zstandard is unpacked whole by the native core.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from aiperf.errors import DatasetError

__all__ = ["is_csv", "iter_lines", "kind_of", "require_file"]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PACKED = {".gz", ".zst"}
_MARKS = (
    (codecs.BOM_UTF8, None),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, UTF-32's before UTF-16's, which it begins with. None: nothing to convert."""


def kind_of(path: Path) -> str:
    """`csv`, `parquet` or `jsonl` (JSON of any kind), by the name's suffix; `.gz` and `.zst` behind it do not count."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in _PACKED]
    last = suffixes[-1] if suffixes else ""
    return last[1:] if last in {".csv", ".parquet"} else "jsonl"


def is_csv(path: Path) -> bool:
    return kind_of(path) == "csv"


def require_file(path: Path) -> None:
    """DatasetError if there is nothing at the path."""
    if not path.exists():
        raise DatasetError(f"cannot read `{path}`: there is no file `{path}`")


def iter_lines(path: Path) -> Iterator[bytes]:
    """Lines as UTF-8 with their line ends, without a byte order mark. DatasetError if the file cannot be read, is empty or
    blank, or its compressed data end too early.
    """
    blank = True
    try:
        for line in _decoded(path):
            if blank and not line.isspace():
                blank = False
            yield line
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read `{path}`: there is no file `{path}`") from error
    except IsADirectoryError as error:
        raise DatasetError(f"cannot read `{path}`: it is a directory, and this format needs a file") from error
    except EOFError as error:
        raise DatasetError(f"cannot read `{path}`: it is truncated: its compressed data end too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"cannot read `{path}`: it is not gzip data: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read `{path}`: {error.strerror or error}") from error
    except UnicodeError as error:
        raise DatasetError(
            f"cannot read `{path}`: it is not the UTF-16 or UTF-32 text that its first bytes say"
        ) from error
    if blank:
        raise DatasetError(f"cannot read `{path}`: it is empty")


def _decoded(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        head = file.peek(4)[:4]
        mark, encoding = next(((m, e) for m, e in _MARKS if head.startswith(m)), (b"", None))
        if encoding is None:
            file.read(len(mark))
            yield from file
            return
        with io.TextIOWrapper(file, encoding, newline="\n") as text:
            for line in text:
                yield line.encode("utf-8", "surrogatepass")


def _unpacked(path: Path, raw: io.BufferedReader) -> io.BufferedReader:
    head = raw.peek(4)[:4]
    if head.startswith(_ZSTD) or path.suffix == ".zst":
        from aiperf._core import read_bytes

        try:
            return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(read_bytes(str(path)))))
        except ValueError as e:
            raise DatasetError(f"cannot read `{path}`: it is not Zstandard data, or truncated: {e}") from e
    if head.startswith(_GZIP) or path.suffix == ".gz":
        return io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=cast("BinaryIO", raw))))
    return raw
