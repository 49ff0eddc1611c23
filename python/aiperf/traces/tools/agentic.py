"""Coding-agent sessions made from laws, not from a trace: AIPerf's `synthesize agentic-code`, with its settings file.

A session begins with the tools and system prompt that all share (layer 1), what its repository shares (layer 1.5, the
repository drawn by Zipf's law), and files of its own (layer 2, lognormal). Each turn adds lognormal new tokens and gets
a lognormal answer; delays are a mixture of fast (tool calls) and slow (people). A session ends by a reset, whose
probability grows with its context (`base_probability` × (1 + (`context_scaling` − 1) × context ÷ limit)), or when the next
turn would not fit. Not taken over: restarts, exact turn counts (both refused when set).

Lines are what AIPerf writes: the first turn of a session has its whole prompt and a `timestamp`, later ones what they add
and a `delay`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiperf.errors import DatasetError
from aiperf.json_text import json_text
from aiperf.number_text import significant

__all__ = [
    "AgenticOptions",
    "AgenticTurn",
    "describe_turns",
    "generate_sessions",
    "load_options",
    "turn_line",
    "write_dataset",
]

_APART_MS = 100.0
"""Between the beginnings of two sessions."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lognormal(_Part):
    """`mean` ≥ `median`: both of the values themselves. Draws outside `min` … `max` are drawn again, up to 100 times."""

    mean: float = Field(gt=0)
    median: float = Field(gt=0)
    min: float | None = Field(default=None, ge=0)
    max: float | None = Field(default=None, gt=0)
    bias: float = Field(default=1.0, gt=0, description="Factor on each draw")
    mu: float | None = None
    sigma: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.mean < self.median:
            raise ValueError(
                f"mean {significant(self.mean, 6)} is below the median {significant(self.median, 6)}: not lognormal"
            )
        return self

    def draw(self, rng: np.random.Generator) -> float:
        mu = math.log(self.median)
        sigma = math.sqrt(2 * math.log(self.mean / self.median))
        low, high = self.min or 0.0, self.max if self.max is not None else math.inf
        for _ in range(100):
            value = float(rng.lognormal(mu, sigma)) * self.bias
            if low <= value <= high:
                return value
        return min(max(self.median, low), high)


class Delays(_Part):
    """ms."""

    agentic_fraction: float = Field(default=0.7, ge=0, le=1)
    agentic_delay: Lognormal = Lognormal(mean=3_000, median=2_000)
    human_delay: Lognormal = Lognormal(mean=45_000, median=30_000)
    max: float | None = Field(default=None, ge=0)


class Reset(_Part):
    base_probability: float = Field(default=0.02, ge=0, le=1)
    context_scaling: float = Field(default=2.0, ge=1)


class Groups(_Part):
    num_groups: int = Field(default=50, ge=1)
    zipf_alpha: float = Field(default=1.2, ge=0)


class Layers(_Part):
    layer1_tokens: int = Field(default=32_000, ge=0)
    layer1_5_tokens: int = Field(default=20_000, ge=0)
    layer2: Lognormal = Lognormal(mean=10_000, median=5_000)
    layer1_5_groups: Groups = Groups()


class AgenticOptions(_Part):
    new_tokens_per_turn: Lognormal = Lognormal(mean=3_500, median=1_800)
    generation_length: Lognormal = Lognormal(mean=500, median=300)
    inter_turn_delay: Delays = Delays()
    reset: Reset = Reset()
    max_prompt_tokens: int = Field(default=200_000, ge=1)
    block_size: int = Field(default=512, ge=1)
    cache: Layers = Layers()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgenticTurn:
    """`total`: tokens of the whole prompt; `new`: of them, those this turn adds (the first: all)."""

    session: int
    turn: int
    group: int
    total: int
    new: int
    output: int
    delay_ms: float
    hash_ids: tuple[int, ...]


def load_options(path: Path | None, max_isl: int | None = None, max_osl: int | None = None) -> AgenticOptions:
    """Settings of a JSON file (AIPerf's, or a `manifest.json`), or the defaults. DatasetError if it cannot be used."""
    data: dict[str, object] = {}
    if path is not None:
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DatasetError(f"cannot read `{path}`: {error.strerror or error}") from error
        except ValueError as error:
            raise DatasetError(f"cannot read `{path}`: it is not JSON ({error})") from error
        inner = settings.get("generation_params", settings) if isinstance(settings, dict) else None
        if not isinstance(inner, dict):
            raise DatasetError(f"cannot read `{path}`: it is not a JSON object of settings")
        data = {k: v for k, v in inner.items() if k not in {"$schema", "restart_turn_range"}}
        for name in ("turns", "restart_initial_probability"):
            if data.pop(name, None):
                raise DatasetError(
                    f"cannot use `{path}`: `{name}` is not supported", "leave it out; `reset` ends sessions"
                )
    if max_isl is not None:
        data["max_prompt_tokens"] = max_isl
    if max_osl is not None:
        length = data.get("generation_length")
        start = dict(length) if isinstance(length, Mapping) else AgenticOptions().generation_length.model_dump()
        data["generation_length"] = {**start, "max": max_osl}
    try:
        return AgenticOptions.model_validate({k: v for k, v in data.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DatasetError(f"cannot use `{path}`: `{where}`: {first['msg']}") from error


def generate_sessions(
    options: AgenticOptions, num_sessions: int, rng: np.random.Generator
) -> Iterator[list[AgenticTurn]]:
    """DatasetError if the shared layers alone exceed the limit."""
    shared = options.cache.layer1_tokens + options.cache.layer1_5_tokens
    if shared >= options.max_prompt_tokens:
        raise DatasetError(
            f"the shared layers have {shared:,} tokens, the limit is {options.max_prompt_tokens:,}",
            "raise `max_prompt_tokens` (`--max-isl`) or make the layers smaller",
        )
    groups = options.cache.layer1_5_groups
    weights = np.arange(1, groups.num_groups + 1, dtype=np.float64) ** -groups.zipf_alpha
    weights /= weights.sum()
    ids = _Ids(options)
    for number in range(num_sessions):
        yield _session(options, number, int(rng.choice(groups.num_groups, p=weights)), ids, rng)


class _Ids:
    """Numbers blocks: those of layer 1 and of each group once, all others as they come."""

    def __init__(self, options: AgenticOptions) -> None:
        size, cache = options.block_size, options.cache
        self._global = cache.layer1_tokens // size
        self._per_group = (cache.layer1_tokens + cache.layer1_5_tokens) // size - self._global
        self._next = self._global + self._per_group * cache.layer1_5_groups.num_groups

    def first(self, group: int, count: int) -> list[int]:
        begin = self._global + group * self._per_group
        shared = [*range(self._global), *range(begin, begin + self._per_group)][:count]
        return shared + self.fresh(count - len(shared))

    def fresh(self, count: int) -> list[int]:
        begin = self._next
        self._next += max(count, 0)
        return list(range(begin, self._next))


def _session(
    options: AgenticOptions, number: int, group: int, ids: _Ids, rng: np.random.Generator
) -> list[AgenticTurn]:
    cache, limit, size = options.cache, options.max_prompt_tokens, options.block_size
    own = round(cache.layer2.draw(rng)) + max(1, round(options.new_tokens_per_turn.draw(rng)))
    total = min(cache.layer1_tokens + cache.layer1_5_tokens + own, limit)
    output = max(1, round(options.generation_length.draw(rng)))
    turns = [
        AgenticTurn(
            session=number,
            turn=0,
            group=group,
            total=total,
            new=total,
            output=output,
            delay_ms=0.0,
            hash_ids=tuple(ids.first(group, -(-total // size))),
        )
    ]
    while True:
        full = total / limit
        reset = options.reset.base_probability * (1 + (options.reset.context_scaling - 1) * full)
        if rng.random() < reset:
            return turns
        new = max(1, round(options.new_tokens_per_turn.draw(rng)))
        if total + output + new > limit:
            return turns
        total += output + new
        output = max(1, round(options.generation_length.draw(rng)))
        law = options.inter_turn_delay
        slow = rng.random() >= law.agentic_fraction
        delay = (law.human_delay if slow else law.agentic_delay).draw(rng)
        if law.max is not None:
            delay = min(delay, law.max)
        turns.append(
            AgenticTurn(
                session=number,
                turn=len(turns),
                group=group,
                total=total,
                new=new,
                output=output,
                delay_ms=delay,
                hash_ids=tuple(ids.fresh(-(-new // size))),
            )
        )


def turn_line(turn: AgenticTurn, start_ms: float) -> dict[str, object]:
    """A Mooncake line; a later turn has the length and ids of what it adds."""
    line: dict[str, object] = {
        "session_id": f"session-{turn.session:06d}",
        "input_length": turn.new,
        "output_length": turn.output,
        "hash_ids": list(turn.hash_ids),
    }
    if turn.turn == 0:
        line |= {"timestamp": round(start_ms, 1), "group_id": turn.group}
    else:
        line["delay"] = round(turn.delay_ms, 1)
    return line


def describe_turns(options: AgenticOptions, sessions: list[list[AgenticTurn]]) -> dict[str, object]:
    """Observed against asked: mean and median of each law, and turns per session."""
    flat = [t for s in sessions for t in s]
    later = [t for t in flat if t.turn]

    def observed(values: list[float], law: Lognormal | None = None) -> dict[str, object]:
        if not values:
            return {"count": 0}
        asked = {} if law is None else {"target_mean": law.mean * law.bias, "target_median": law.median * law.bias}
        data = np.array(values)
        percent = {f"p{p:02d}": float(np.percentile(data, p)) for p in (5, 25, 75, 95, 99)}
        return {
            **asked,
            "count": len(values),
            "mean": float(data.mean()),
            "std": float(data.std()),
            "median": float(np.median(data)),
            **percent,
        }

    return {
        "new_tokens_per_turn": observed([t.new for t in later], options.new_tokens_per_turn),
        "generation_length": observed([t.output for t in flat], options.generation_length),
        "input_length": observed([t.total for t in flat]),
        "inter_turn_delay_ms": observed([t.delay_ms for t in later]),
        "turns_per_session": observed([float(len(s)) for s in sessions]),
    }


def write_dataset(folder: Path, options: AgenticOptions, num_sessions: int, seed: int, name: str) -> tuple[int, int]:
    """`dataset.jsonl`, `manifest.json` (settings and seed: enough to make it again) and `quality.json` in a new folder.

    Sessions begin one after the other, 100 ms apart. Returns the numbers of sessions and turns. DatasetError if there are
    none to make, or the folder is there already.
    """
    if num_sessions < 1:
        raise DatasetError(f"the number of sessions must be at least 1, found {num_sessions}")
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        raise DatasetError(f"cannot make the folder `{folder}`: {e.strerror or e}") from e
    sessions = list(generate_sessions(options, num_sessions, np.random.default_rng(seed)))
    with (folder / "dataset.jsonl").open("w", encoding="utf-8") as out:
        for session in sessions:
            out.writelines(json_text(turn_line(t, t.session * _APART_MS)) + "\n" for t in session)
    manifest = {
        "seed": seed,
        "num_sessions": num_sessions,
        "config_name": name,
        "generation_params": options.model_dump(mode="json"),
    }
    for file, content in (("manifest.json", manifest), ("quality.json", describe_turns(options, sessions))):
        (folder / file).write_text(json_text(content, indent=2) + "\n", encoding="utf-8")
    return len(sessions), sum(map(len, sessions))
