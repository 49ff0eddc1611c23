"""`--part 2/8` and `--start-at TIME`: which part of the load this process sends, and when all parts start."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass

__all__ = ["MAX_PARTS", "Part", "parse_part", "parse_start", "salt_of", "seed_at"]

MAX_PARTS = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Part `index` (from 0) of `of`."""

    index: int
    of: int

    @property
    def shown(self) -> str:
        """As the user writes it."""
        return f"{self.index + 1}/{self.of}"


def parse_part(text: str) -> Part:
    """`2/8`: the second of eight. ValueError says what is wrong."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if found is None:
        raise ValueError(f"`{text}` is not a part such as `2/8` (the second of eight)")
    number, of = int(found[1]), int(found[2])
    if not 1 <= of <= MAX_PARTS:
        raise ValueError(f"`{text}`: the number of parts must be between 1 and {MAX_PARTS:,}")
    if not 1 <= number <= of:
        raise ValueError(f"`{text}`: parts are numbered from 1 to {of}")
    return Part(number - 1, of)


def parse_start(text: str) -> int:
    """Epoch ns. ISO 8601 with an offset or `Z`, or seconds since 1970. ValueError says what is wrong."""
    given = text.strip()
    if re.fullmatch(r"\d{9,11}(\.\d+)?", given):
        whole, _, rest = given.partition(".")
        return int(whole) * 1_000_000_000 + int((rest + "0" * 9)[:9])
    try:
        moment = dt.datetime.fromisoformat(given)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:  # machines in different time zones would start hours apart
        raise ValueError(
            f"`{text}` is not a time with an offset such as `2026-11-29T14:05:00Z`, or seconds since 1970 such as `1795961100`"
        )
    # Exactly: a float of epoch seconds has a resolution of 200 ns.
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def seed_at(start_ns: int) -> int:
    """The seed of all parts that start then, if the user gave none; below 2³¹."""
    return _hash(f"seed {start_ns}") >> 33


def salt_of(seed: int, start_ns: int) -> int:
    """What makes the request ids and cache-busting texts of a divided run its own, and the same in all parts; below 2⁶³."""
    return _hash(f"salt {seed} {start_ns}") >> 1
