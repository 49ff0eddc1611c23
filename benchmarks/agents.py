"""How fast and lean a replay of recorded coding agents is: `python -m benchmarks.agents [SESSIONS] [--peer VENV] [--only first,…]`.

SESSIONS is a folder with Weka sessions (44 public ones: https://github.com/callanjfox/kv-cache-tester); without one, look-alikes are made.
`--peer` is an environment with AIPerf 0.13.0, which reads the same files; its tokenizer is a small local one, so that nothing is fetched.
Server and client have a core each, but for reading sessions, which uses what there is. Prints target and whether it is met.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.command import folder, run
from benchmarks.rows import Row, goal, show
from benchmarks.server import CLIENT_CORE, Server, serving
from benchmarks.traces import FAST, REPEATS, profile, records_of
from numpy.typing import NDArray

__all__ = ["look_alikes"]

MANY, FEW, LANES = 689, 44, 200
WITHIN = ("--trajectory-start-min-ratio", "0.25", "--trajectory-start-max-ratio", "0.75")
"""Where the scenario lets lanes begin."""
BLOCK = 64
TOKENIZER, TOKENIZER_WORDS = "bench/words", 4000


def look_alikes(path: Path, sessions: int, requests: int, seed: int = 1) -> Path:
    """Sessions of an agent each: prompts that grow from about 40,000 to 280,000 tokens, nearly all of them seen before; every fourth has
    sub-agents.
    """
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(sessions):
            blocks = int(rng.integers(500, 900))
            at, rows, texts = 0.0, [], [str(i) for i in range(1, 8000)]
            for place in range(requests):
                tail, out, took = (
                    int(rng.integers(1, BLOCK)),
                    int(rng.lognormal(5.5, 0.8)) + 1,
                    float(rng.uniform(1, 8)),
                )
                ids = ",".join(texts[:blocks])
                rows.append(_request(at, blocks * BLOCK + tail, out, ids, took))
                if number % 4 == 0 and place and place % 12 == 0:
                    own = ",".join([*texts[:200], *texts[7000 : 7000 + place]])
                    inner = _request(0.5, (200 + place) * BLOCK, 80, own, 2.0)
                    rows.append(
                        f'{{"t":{at + took + 0.1:.2f},"type":"subagent","agent_id":"a{place}","duration_ms":3000,"requests":[{inner}]}}'
                    )
                at += took + float(rng.exponential(6)) + 0.5
                blocks = min(blocks + int(rng.integers(20, 150)), 4300)
            head = f'"id":"s{number:04}","models":["m"],"block_size":{BLOCK},"hash_id_scope":"local"'
            file.write(f'{{{head},"requests":[{",".join(rows)}]}}\n')
    return path


def _request(at: float, tokens: int, out: int, ids: str, took: float) -> str:
    return f'{{"t":{at:.2f},"type":"n","model":"m","in":{tokens},"out":{out},"hash_ids":[{ids}],"api_time":{took:.2f}}}'


def lanes(data: Path, count: int, *flags: str) -> tuple[str, ...]:
    return ("--input-file", str(data), "--custom-dataset-type", "weka_trace", "--concurrency", str(count), *flags)


def forget(path: Path) -> None:
    """Out of the page cache: the next reader takes it from the disk."""
    for file in [path] if path.is_file() else path.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def first_request(server: Server, command: Sequence[str | Path], more: Mapping[str, str] | None = None) -> float:
    """Seconds from the start of the process to the first byte of the first request at the server. `more`: of its environment."""
    before = len(server.ledger_rows())
    begin = time.time()
    ended = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        env={**os.environ, **(more or {})},
    )
    if len(server.ledger_rows()) == before:
        raise RuntimeError(f"{command[0]} sent nothing: {ended.stdout.decode(errors='replace')[-2000:]}")
    rows = [
        r for r in server.ledger_rows()[before:] if r.get("prompt_tokens") is not None or r.get("body_bytes", 0) > 0
    ]
    return min(int(r["first_byte_read_ns"]) for r in rows) / 1e9 - begin


def ours(server: Server, data: Path, target: Path) -> list[str | Path]:
    return profile(server, target, *lanes(data, 1, "--request-count", "1"))


def few(data: Path, _: Path | None) -> Iterator[Row]:
    with serving(FAST, ledger=True) as server:
        seconds = []
        for _round in range(REPEATS + 1):
            with folder() as target:
                seconds.append(first_request(server, ours(server, data, target)))
    spread = f" ({min(seconds[1:]):.2f}–{max(seconds[1:]):.2f})"
    yield goal("few sessions: command to first request", statistics.median(seconds[1:]), "s", 1, more=spread)


def many(few_sessions: Path, _: Path | None) -> Iterator[Row]:
    """As many and as large as the public corpus: out of the disk, and again, when its lengths and ids are in the user's cache."""
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name, serving(FAST, ledger=True) as server:
        data = look_alikes(Path(name) / "traces.jsonl", MANY, 52)
        size = data.stat().st_size / 1e6
        cache = Path(name) / "cache"
        own = {"AIPERF_CACHE_DIR": str(cache)}

        def start(path: Path) -> float:
            with folder() as target:
                return first_request(server, ours(server, path, target), own)

        start(few_sessions)  # what else is made once per machine
        cold: list[float] = []
        for _round in range(3):
            shutil.rmtree(cache / "agents", ignore_errors=True)
            forget(data)
            cold.append(start(data))
        warm = [start(data) for _round in range(3)]
        kept = sum(file.stat().st_size for file in (cache / "agents").iterdir()) / 1e6
    what = f"{MANY} sessions, {size:,.0f} MB: command to first request"
    yield goal(f"{what}, cold", statistics.median(cold), "s", 12, more=f" ({min(cold):.2f}–{max(cold):.2f})")
    yield goal(f"{what}, from the cache", statistics.median(warm), "s", 2, more=f" ({min(warm):.2f}–{max(warm):.2f})")
    yield goal(f"… size of the cache, {100 * kept / size:.1f} % of the file", kept, "MB", 10)


def replay(_data: Path, _: Path | None) -> Iterator[Row]:
    """200 lanes of long prompts, a server that takes half a second each: how late requests are sent, and memory, in a run of its own:
    looking at it stops the process. Lanes begin within their recordings, at instants spaced as recorded, as the scenario has them; and
    all with their first turn, in one instant.
    """
    flags = ("--trace-idle-gap-cap-seconds", "3", "--benchmark-duration", "30", "--cache-bust", "first_turn_prefix")
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name, serving({**FAST, "ttft_ms": 500}) as server:
        data = look_alikes(Path(name) / "traces.jsonl", MANY, 52)
        within = lags_of(server, lanes(data, LANES, *flags, *WITHIN))
        at_once = lags_of(server, lanes(data, LANES, *flags))
        burst = burst_written(server, at_once.first_sizes)
        with folder() as target:
            ended = run(profile(server, target, *lanes(data, LANES, *flags)), measure_memory=True)
    yield goal(
        f"{LANES} lanes, begun within: send lag p99", np.quantile(within.lag_ms, 0.99), "ms", 2, more=within.words
    )
    yield goal(
        f"{LANES} lanes, begun at once: send lag p99", np.quantile(at_once.lag_ms, 0.99), "ms", 2, more=at_once.words
    )
    for words, part in (
        (f"… of the {len(at_once.first_sizes)} first turns, all due in one instant", at_once.lag_ms[at_once.is_first]),
        ("… of the others", at_once.lag_ms[~at_once.is_first]),
        (f"… of a bare writer of the {len(at_once.first_sizes)} bodies, ready made", burst),
    ):
        p50, p90, p99 = np.quantile(part, [0.5, 0.9, 0.99])
        yield Row(f"{words}: p99", f"{p99:,.2f} ms (p50 {p50:.2f}, p90 {p90:.2f})", "", None)
    yield goal(f"{LANES} lanes, {MANY} sessions: peak memory", ended.peak_mb(), "MB", 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lags:
    """Of the requests of the measured phase. `first_sizes`: bytes of those that were due first, in one instant."""

    lag_ms: NDArray[np.float64]
    is_first: NDArray[np.bool_]
    first_sizes: list[int]
    words: str


def lags_of(server: Server, load: Sequence[str]) -> Lags:
    with folder() as target:
        run(profile(server, target, *load))
        columns = records_of(target)
        measured = columns.phase == columns.phase.max()
        lag = ((columns.sent - columns.scheduled) / 1e6)[measured]
        due = columns.scheduled[measured]
        size = columns.bytes_out[measured]
        rate = float(size.sum()) / 1e6 / (float(columns.end[measured].max() - columns.sent[measured].min()) / 1e9)
    p50, p90 = np.quantile(lag, [0.5, 0.9])
    is_first = due == due.min()
    words = f" (p50 {p50:.2f}, p90 {p90:.2f}; {len(lag):,} requests, {rate:,.0f} MB/s)"
    return Lags(lag_ms=lag, is_first=is_first, first_sizes=[int(n) for n in size[is_first]], words=words)


def burst_written(server: Server, sizes: Sequence[int]) -> NDArray[np.float64]:
    """Requests with bodies of these sizes, each on an open connection of its own, written one after the other as fast as one thread can:
    how long after the first each one begins, ms. What is more than this is the client's own.
    """
    host, _, port = server.address.rpartition(":")
    requests = []
    for size in sizes:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n"
        requests.append(head.encode() + b" " * size)
    began = []
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, {CLIENT_CORE})
        connections = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in sizes]
        for connection, request in zip(connections, requests, strict=True):
            began.append(time.perf_counter_ns())
            connection.sendall(request)
    return (np.array(began) - began[0]) / 1e6


def bodies(_data: Path, _: Path | None) -> Iterator[Row]:
    """Bodies of about 150,000 tokens, each with the beginning of the one before, made one after the other."""
    from aiperf.endpoints import BodyOptions, load_endpoint
    from aiperf.traces.agents import Layout, lay_out
    from aiperf.workload.agents import build_agent_plan
    from aiperf.workload.choose_tokenizer import load_tokenizer
    from aiperf.workload.plan import PlanOptions
    from aiperf.workload.tokenizers import TokenizerOptions
    from aiperf.workload.vocabulary import EncodedText, text_source

    tokenizer, _found = load_tokenizer(TokenizerOptions(name="builtin", model="builtin"))
    words, _notes = text_source(tokenizer)
    if isinstance(words, EncodedText):
        raise TypeError("the built-in tokenizer's words do not add up")
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        table = lay_out(look_alikes(Path(name) / "t.jsonl", 8, 46), Layout(mark="first_user"))
    options = PlanOptions(models=("m",), body=BodyOptions(model="", streaming=True))
    plan = build_agent_plan(table, load_endpoint("chat"), options).to_core()
    rows = np.flatnonzero((table.isl > 120_000) & (table.isl < 180_000)).tolist()
    mark = rb"[rid:0123456789ab]\n\n"
    rates = []
    for _round in range(REPEATS):
        begin, made = time.process_time(), 0
        for row in rows:
            made += len(plan.body(row, words, mark))
        rates.append(made / (time.process_time() - begin) / 1e6)
    more = f" ({len(rows)} bodies of {made / len(rows) / 1e3:,.0f} kB)"
    yield goal(
        "bodies of 150,000 tokens at send time",
        statistics.median(rates),
        "MB/s per core",
        500,
        at_most=False,
        more=more,
    )


def peer(data: Path, venv: Path | None) -> Iterator[Row]:
    """AIPerf's start on the same files. The scenario's rules but for its data set and its duration, which need the override."""
    if venv is None:
        return
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name, serving(FAST, ledger=True) as server:
        hub = str(_tokenizer(Path(name) / "hf"))
        offline = {"HF_HOME": hub, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        seconds: dict[str, list[float]] = {"AIPerf 0.13.0": [], "this tool": []}
        for _round in range(3):
            for tool, measured in seconds.items():
                with folder() as target:
                    executable = venv / "bin" / "aiperf" if tool.startswith("AIPerf") else profile(server, target)[0]
                    measured.append(first_request(server, _scenario(executable, server, data, target), offline))
    medians = {tool: statistics.median(found) for tool, found in seconds.items()}
    for tool, measured in seconds.items():
        shown = f"{medians[tool]:,.2f} s ({min(measured):.2f}–{max(measured):.2f})"
        yield Row(f"scenario, same files, command to first request: {tool}", shown, "", None)
    ratio = medians["AIPerf 0.13.0"] / medians["this tool"]
    yield goal("… quicker than AIPerf 0.13.0", ratio, "×", 5, at_most=False)


def _scenario(executable: str | Path, server: Server, data: Path, target: Path) -> list[str | Path]:
    return [
        *(executable, "profile", "--scenario", "inferencex-agentx-mvp", "--unsafe-override", "--url", server.url),
        *("--endpoint-type", "chat", "--streaming", "--model", "sim", "--tokenizer", TOKENIZER, "--random-seed", "42"),
        *("--input-file", data, "--custom-dataset-type", "weka_trace", "--concurrency", "4"),
        *("--benchmark-duration", "5", "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"),
        *("--artifact-dir", target),
    ]


def _tokenizer(hub: Path) -> Path:
    """A small byte-level BPE in a Hugging Face cache, which both tools load without network."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from aiperf.workload.vocabulary import load_corpus

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    words, stream = load_corpus()
    prose = [words[i] for i in stream[:20_000]]
    text = [*prose, *(" ".join(prose[k : k + 200]) for k in range(0, len(prose), 200))]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(text, trainers.BpeTrainer(vocab_size=TOKENIZER_WORDS, initial_alphabet=alphabet))
    repository = hub / "hub" / f"models--{TOKENIZER.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    made.save(str(snapshot / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1_000_000}
    (snapshot / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (snapshot / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    return hub


PARTS: Mapping[str, Callable[[Path, Path | None], Iterator[Row]]] = {
    "few": few,
    "many": many,
    "replay": replay,
    "bodies": bodies,
    "peer": peer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", type=Path, nargs="?", help="a folder of Weka sessions; default: look-alikes")
    parser.add_argument("--peer", type=Path, help="an environment with AIPerf 0.13.0")
    parser.add_argument("--only", default="", help=f"of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    wanted = arguments.only.split(",") if arguments.only else list(PARTS)
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        data = arguments.sessions or look_alikes(Path(name) / "few.jsonl", FEW, 20)
        for part in wanted:
            for row in PARTS[part](data, arguments.peer):
                show([row])


if __name__ == "__main__":
    main()
