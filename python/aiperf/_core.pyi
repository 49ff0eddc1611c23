"""The border to the native core: what crosses it, and what each side may rely on.

Columns cross as numpy arrays, settings as JSON, never a Python object per request. Calls that can wait release the GIL.
Files are named by `str` or `Path`. Errors: `OSError` and its subclasses for what the system refuses, `ValueError` for arguments
and contents that make no sense, `aiperf.errors.EngineError` for an engine that cannot go on.
A debug build warns when it is imported: its timings are worthless.
"""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType

__all__ = [
    "AgentCorpus",
    "BlockHasher",
    "Capture",
    "ChunkBatches",
    "Engine",
    "Flow",
    "GapHeat",
    "GapLists",
    "GapPool",
    "Http2Questions",
    "JournalTail",
    "LagPool",
    "MetricLines",
    "Piece",
    "Plan",
    "RecordPieces",
    "Records",
    "RecordsJoin",
    "RecordsWriter",
    "RowFacts",
    "RowStamps",
    "SimServer",
    "Texts",
    "TokenCurve",
    "Vocabulary",
    "WindowGaps",
    "agents_digest",
    "builtin_count",
    "builtin_decode",
    "builtin_encode",
    "lay_out_agent_rows",
    "order_statistics",
    "parse_otlp_json",
    "read_bytes",
    "read_parquet_columns",
    "scan_chunks",
    "scan_records",
    "sim_presets",
    "simulate",
    "write_jsonl",
    "write_parquet_columns",
    "write_records",
]

_Path: TypeAlias = str | PathLike[str]
_Numbers: TypeAlias = (
    NDArray[np.float64]
    | NDArray[np.int64]
    | NDArray[np.uint64]
    | NDArray[np.int32]
    | NDArray[np.uint32]
    | NDArray[np.uint16]
    | NDArray[np.uint8]
    | NDArray[np.bool_]
)
_Chunks: TypeAlias = tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint8],
]
"""offsets (rows + 1,) from 0, then chunk_ns, chunk_lag_ns, chunk_bytes, chunk_text_bytes, chunk_kind (chunks,)."""

@final
class Plan:
    """What to send, as the columns of `docs/dev/2026-11-24-border.md` (checked once, here); an engine takes it over.

    `literals`: bytes of literal segments. `session_ids` are not sent and not kept. ValueError: a column is missing or of another
    dtype. EngineError: the columns contradict each other.
    """

    def __new__(
        cls,
        columns: Mapping[str, NDArray[Any]],
        literals: Sequence[bytes],
        session_ids: Sequence[str] | None = None,
        agents: Mapping[str, NDArray[Any] | Sequence[str]] | None = None,
    ) -> Self: ...
    def body(
        self, row: int, vocabulary: Vocabulary | None = None, mark: bytes | None = None, output_cap: int | None = None
    ) -> bytes:
        """The body of a row as it is sent, with empty replies. `mark`: of its play, JSON-escaped. ValueError: no such row, or the
        plan was taken over.
        """
    @property
    def num_turns(self) -> int: ...
    @property
    def num_sessions(self) -> int: ...

@final
class AgentCorpus:
    """Recorded agent sessions of files and folders (`weka_trace`). OSError: one of them cannot be read.

    `threads` 0: one per core.
    """

    def __new__(cls, paths: Sequence[str], threads: int = 0) -> Self: ...
    @staticmethod
    def from_bytes(data: bytes) -> AgentCorpus | None:
        """What `to_bytes` made; None if it is not whole, or another version of the core has made it."""
    def to_bytes(self) -> bytes | None:
        """All sessions, before they are laid out, in few bytes; None if there are `faults`."""
    @property
    def digest(self) -> str:
        """SHA-256 of the file that was read, as `sha256sum` prints it; of a folder, that of the lines `sha256sum *` prints of its files."""
    def faults(self) -> list[dict[str, Any]]:
        """What is wrong: `file`, `line`, `session`, `request`, `field`, `what`, `kind`; the sessions concerned are left out."""
    def remarks(self) -> list[dict[str, Any]]:
        """What is unusual and no error; keys as of `faults`."""
    @property
    def num_sessions(self) -> int: ...
    def lay_out(self, options: str) -> dict[str, Any]:
        """Columns (`aiperf.traces.agents.AgentTable`), or `faults` that only show across sessions (with `skip_faulty`: such sessions are
        not in the columns, and `left_out` says why). `options`: JSON. Once: nested times are settled by it. ValueError: options that
        are not known.
        """

def agents_digest(path: str) -> str:
    """The digest of `AgentCorpus`, nothing looked at. OSError: a file cannot be read."""

def lay_out_agent_rows(
    columns: dict[str, Any], names: Sequence[str], scopes: Sequence[str], mark: str, text_seed: int
) -> dict[str, Any]:
    """Prompts, bodies and hits of requests whose streams are known, as of `AgentCorpus.lay_out`.

    By row: `session`, `input`, `output`, `id_offsets` with `ids` (CSR), all uint32, and `order`: rows as they were recorded. By stream:
    `names`, `trace`, `source` (the row whose prompt its first one may begin with; 2³²−1: none). By recording: `scopes` (equal ids of
    equal scopes have the same text), `block_tokens`. `mark`: `none`, `first_user`, `first`. ValueError: columns that do not fit.
    """

@final
class Vocabulary:
    """The source of synthetic text; the text of a seed and a number of tokens is the same on every machine.

    `words`: JSON-escaped UTF-8 without leading space. `counts[i]`: tokens of `" " + words[i]`. `stream`: the prose as word numbers.
    `heads`: numbers of words that are one token with and without leading space. EngineError: a number out of range.
    """

    def __new__(
        cls, words: Sequence[bytes], counts: NDArray[np.uint8], stream: NDArray[np.uint32], heads: NDArray[np.uint32]
    ) -> Self: ...
    def text(self, seed: int, tokens: int, leading_space: bool = False) -> bytes:
        """The bytes the engine sends for such a segment, JSON-escaped."""
    @staticmethod
    def epoch_seed(seed: int, epoch: int) -> int:
        """The seed of a segment of kind 2 when the plan is repeated for the `epoch`-th time; 0 is the first time."""
    def to_bytes(self) -> bytes:
        """All of it, for another process of the same version."""
    @staticmethod
    def from_bytes(data: bytes) -> Vocabulary:
        """What `to_bytes` gave. EngineError: it is cut or of another version."""
    def speed(self, tokens: int, seconds: float) -> float:
        """Bytes per second at which texts of `tokens` tokens are made, measured for about `seconds`."""

@final
class Engine:
    """A run under way: the load begins with the construction. `settings`: `aiperf.config.engine_settings.EngineSettings` as JSON.

    ValueError: the plan was used before. EngineError: the settings, plan or URLs cannot be used; OSError: a file cannot.
    """

    def __new__(cls, settings: str, plan: Plan, vocabulary: Vocabulary | None = None) -> Self: ...
    def wait(self, timeout_s: float) -> bool:
        """True when the run has ended and its records are in the journal; False after the timeout."""
    def stop(self, level: int) -> None:
        """1: send nothing more, let requests in flight finish within the grace period. 2: cancel them."""
    def go(self, at_wall_ns: int) -> None:
        """With `part.barrier`, or `hold` of a phase: the phase that is held (`held` of the snapshot) starts when `wall_ns` gets there."""
    def sign_with(self, access_key: str, secret_key: str, session_token: str | None = None) -> None:
        """Requests that are signed (`sign` of the settings) are signed with these credentials from now on."""
    def wall_ns(self) -> int:
        """Epoch ns by the run's clock: the system's when the engine was made, monotonic since."""
    def snapshot(self) -> str:
        """Counters and histograms so far, as a JSON object."""
    def outcome(self) -> str | None:
        """What happened, as a JSON object; None while the run goes on."""

@final
class Records:
    """The rows of a run, one per request: columns of record schema v1 (`aiperf.records.schema`).

    `path`: `records.parquet`, a journal's directory (its whole batches; read once here to count the rows), or a `parts.json` that
    names several of these, read as one. Nothing is
    kept in memory. Any Arrow library reads it by the C stream interface: `polars.DataFrame(records)`,
    `pyarrow.table(records)`, `pandas.DataFrame.from_arrow(records)`, DuckDB by name.
    ValueError if the file is damaged or of a later schema.
    """

    def __new__(cls, path: _Path) -> Self: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def columns(self) -> list[str]:
        """Names, in the file's order."""
    @property
    def metadata(self) -> str | None:
        """Facts of the run as JSON (the journal's header); None where none was written."""
    @property
    def is_complete(self) -> bool:
        """False for a journal that was not closed: a run that goes on, or was killed. Then only its tail can be missing."""
    @property
    def is_live(self) -> bool:
        """True for a journal that another engine, in this process or not, had open when this was opened."""
    def scalar(self, name: str) -> NDArray[np.float64]:
        """(rows,) numbers or flags, NaN where null; all NaN for counted tokens that are not counted yet."""
    def strings(self, name: str) -> list[str | None]:
        """(rows,) strings; ids as UUID text. All None for texts that were not kept."""
    def batches(self) -> ChunkBatches:
        """The list columns, a bounded number of rows and chunks at a time."""
    def pieces(self) -> RecordPieces:
        """All columns, at most 50,000 rows at a time; small journal batches are merged to at least 20,000 rows or 12 MB."""
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType: ...

@final
class ChunkBatches:
    """Iterates (number of the first row, chunks of consecutive rows)."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> tuple[int, _Chunks]: ...

@final
class RecordPieces:
    """Iterates pieces in row order."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Piece: ...

@final
class Piece:
    """Consecutive rows, in memory; names and values as in `Records`."""

    @property
    def row0(self) -> int:
        """Number of the first row within the run."""
    @property
    def num_rows(self) -> int: ...
    def scalar(self, name: str) -> NDArray[np.float64]: ...
    def strings(self, name: str) -> list[str | None]: ...
    def texts(self, name: str) -> Texts:
        """As `strings`, without a Python object for each."""
    def chunks(self) -> _Chunks: ...

@final
class Texts(Sequence[str | None]):
    """(rows,) strings that become Python's when they are asked for; `write_jsonl` writes them without. No slices: TypeError."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> str | None: ...
    @overload
    def __getitem__(self, index: slice, /) -> NoReturn: ...

@final
class JournalTail:
    """Follows a journal while it grows: each row once, in the order of writing. `path`: its directory, which need not be there yet."""

    def __new__(cls, path: _Path) -> Self: ...
    def take(self, rows: int) -> Piece | None:
        """Up to `rows` rows that were written since the last call; None: nothing new.

        ValueError: a journal of a later schema; OSError: it cannot be read.
        """

@final
class RecordsWriter:
    """Writes `records.parquet` under another name, which it gets when it is complete. `texts`: keeps the replies' texts."""

    def __new__(cls, path: _Path, *, texts: bool = False) -> Self: ...
    def append(
        self,
        piece: Piece,
        counted_output: _Numbers | None = None,
        counted_reasoning: _Numbers | None = None,
        *,
        isl: _Numbers | None = None,
        server: dict[str, NDArray[np.float64]] | None = None,
    ) -> None:
        """`counted_*`, `isl`: (rows,) tokens, NaN for unknown; None leaves what the piece has. `server`: `server_*` columns, whole."""
    def finish(self, metadata: str) -> int:
        """Writes the footer with `metadata` (JSON), syncs, renames; returns the number of rows."""
    def discard(self) -> None:
        """Removes the unfinished file; nothing to do after `finish`."""

@final
class RecordsJoin:
    """Joins the `records.parquet` of a run's parts into one on a thread of its own, with the rows and columns that `RecordsWriter` would
    write: columns that are the same in the whole are copied, not decoded.
    """

    @staticmethod
    def start(records: Records, path: _Path, metadata: str, *, texts: bool = False) -> RecordsJoin | None:
        """None if a part is no such file, or lacks a column: that takes `RecordsWriter`."""
    def finish(self) -> int:
        """Waits until the file is complete; returns the number of rows. OSError: it cannot be written."""
    def discard(self) -> None:
        """Removes the unfinished file; nothing to do after `finish`."""

def write_records(
    path: _Path,
    columns: Mapping[str, _Numbers],
    lists: Mapping[str, _Numbers] | None = None,
    strings: Mapping[str, Sequence[str | None]] | None = None,
    *,
    metadata: str = "{}",
) -> int:
    """Writes a `records.parquet` from columns: imported results, simulations on a virtual clock, tests. Returns the rows.

    `columns`: scalars, NaN for null. `lists`: `offsets` (rows + 1,) integers and list columns; those left out are 0
    (`chunk_kind`: 1, content). `strings`: also `request_id`, `correlation_id` as UUIDs. Columns left out are null where the
    schema allows; else the row number (`request`, `session_num`, ids), derived from the chunks (`num_chunks`,
    `num_content_chunks`, `merged`), or 0. ValueError: unknown column, unequal lengths, a value out of range.
    """

class _JsonlErrors(Protocol):
    @property
    def rows(self) -> NDArray[np.int64]: ...
    @property
    def codes(self) -> NDArray[np.int64]: ...
    @property
    def types(self) -> Sequence[str]: ...
    @property
    def messages(self) -> Sequence[str]: ...

class _JsonlBatch(Protocol):
    """`aiperf.reports.exporters.jsonl.JsonlBatch`."""

    @property
    def num_rows(self) -> int: ...
    @property
    def metadata(self) -> Iterable[object]: ...
    @property
    def metrics(self) -> Iterable[object]: ...
    @property
    def errors(self) -> _JsonlErrors: ...

def write_jsonl(path: _Path, batch: _JsonlBatch, *, first: int = 0, threads: int | None = None) -> int:
    """Appends the batch's lines from row `first` on to the file (created if needed) and returns the bytes written; `threads` None: one per CPU.

    The bytes are those of `aiperf.reports.exporters.jsonl.render_jsonl`, but that an infinite value is absent, as JSON has no word for it.
    """

@final
class RowFacts:
    """What a row's content chunks say of the row; a sink of `scan_chunks`. The arrays are (rows,) float64 with NaN where there is nothing,
    or None if there is nothing at all; each can be taken once.
    """

    def __new__(cls, num_rows: int) -> Self: ...
    @property
    def coalesced(self) -> int:
        """Content chunks whose timestamp is an upper bound."""
    @property
    def chunks(self) -> int:
        """Content chunks."""
    @property
    def longest(self) -> tuple[int, int, int] | None:
        """The longest gap, the first of equal ones: its length in ns, its row, when it began (ns of run time)."""
    def take_second_content(self) -> NDArray[np.float64] | None:
        """Timestamp of the second content chunk, ns of run time."""
    def take_longest_gap(self) -> NDArray[np.float64] | None:
        """Longest gap between content chunks, ns."""
    def take_first_share(self) -> NDArray[np.float64] | None:
        """Share of the text that came with the first content chunk."""
    def take_with_text(self) -> NDArray[np.float64] | None:
        """Content chunks that have text."""

@final
class GapPool:
    """All gaps between content chunks, ns: each kept up to `exact_limit` of them, in a histogram (bins 2⁻¹⁰ wide) beyond. A sink.

    `expected`: gaps to come, if it is known. `over_threshold`: those longer than `threshold_ns`.
    """

    def __new__(cls, expected: int | None, exact_limit: int, threshold_ns: int | None) -> Self: ...
    @property
    def count(self) -> int: ...
    @property
    def over_threshold(self) -> int: ...
    @property
    def smallest(self) -> int:
        """Meaningless without gaps."""
    @property
    def largest(self) -> int: ...
    @property
    def total(self) -> float: ...
    @property
    def std(self) -> float:
        """Of the population; NaN without gaps."""
    @property
    def is_exact(self) -> bool: ...
    def order(self, ranks: Sequence[int]) -> NDArray[np.int64]:
        """The gaps at these ranks, 0 the shortest; only if `is_exact`."""
    def at_rank(self, rank: float) -> float:
        """The gap at a rank of the histogram; only if not `is_exact`."""
    def below(self, edges_ns: Sequence[float]) -> list[int]:
        """Gaps below each edge; edges ascend, the last may be infinite."""

@final
class GapLists:
    """The gaps of each row, ns / `divisor`. A sink."""

    def __new__(cls, num_rows: int, divisor: float) -> Self: ...
    def take(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(values, offsets): row i has values[offsets[i] : offsets[i + 1]]. Once."""

@final
class LagPool:
    """Receive lags in a histogram (bins 2⁻⁷ wide). A sink."""

    def __new__(cls) -> Self: ...
    @property
    def count(self) -> int: ...
    def quantile(self, share: float) -> float:
        """ns; NaN without chunks."""

@final
class Flow:
    """When tokens arrive, and what the decode rate changes by at each instant. A sink; needs tokens.

    `cells`: sums over so many equal parts of the time from `begin` to `end` (ns of run time) instead of each step.
    """

    def __new__(cls, begin: float, end: float, cells: int | None = None) -> Self: ...
    def take_steps(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """(instants in ns of run time, change of the decode rate in tokens/s, tokens that arrive); empty with cells. Once."""
    def cells(
        self,
    ) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]] | None:
        """Of the rate and of the tokens: (cells,) sums of the steps, and of steps × share of the cell after them."""

@final
class WindowGaps:
    """Tokens and gaps by window of time: a chunk is in the window of its timestamp, a gap in that of its later chunk. A sink; needs tokens.

    `edges`: (windows + 1,) ns of run time, evenly apart but the last. `is_exact`: gaps are kept, otherwise counted in bins.
    """

    def __new__(cls, edges: NDArray[np.int64], is_exact: bool) -> Self: ...
    @staticmethod
    def num_bins() -> int: ...
    def tokens(self) -> NDArray[np.float64]:
        """(windows,) tokens that arrived."""
    def take_gaps(self) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """(window, ns) of each gap, if they are kept. Once."""
    def take_bins(self) -> NDArray[np.int32]:
        """(windows · bins,) gaps by window and by the float32 bits of their length without the last 16, if they are not kept. Once."""

@final
class GapHeat:
    """Gaps of some rows by when the later chunk came and by length (float32 bits without the last `shift`, from `lowest`). A sink."""

    def __new__(
        cls,
        window: tuple[float, float],
        rows: NDArray[np.bool_],
        cells: tuple[int, int],
        shift: int,
        lowest: int,
    ) -> Self: ...
    def counts(self) -> NDArray[np.int64]:
        """(time cells · gap cells,)"""

@final
class TokenCurve:
    """Tokens that arrived in each window. A sink; needs tokens. `edges`: (windows + 1,) ns of run time, ascending."""

    def __new__(cls, edges: NDArray[np.float64]) -> Self: ...
    def tokens(self) -> NDArray[np.float64]:
        """(windows,)"""

@final
class RowStamps:
    """Timestamps of the content chunks of chosen rows (row numbers, ascending). A sink."""

    def __new__(cls, rows: NDArray[np.int64]) -> Self: ...
    def take(self) -> list[tuple[int, NDArray[np.int64]]]:
        """(row, ns of run time) of each chosen row with content. Once."""

_ChunkSink: TypeAlias = RowFacts | GapPool | GapLists | LagPool | Flow | WindowGaps | GapHeat | TokenCurve | RowStamps

def scan_chunks(
    row0: int,
    offsets: NDArray[np.int64],
    chunk_ns: NDArray[np.int64],
    chunk_lag_ns: NDArray[np.int32],
    chunk_text_bytes: NDArray[np.uint32],
    chunk_kind: NDArray[np.uint8],
    keep: NDArray[np.bool_],
    row_tokens: NDArray[np.float64] | None,
    sinks: Sequence[_ChunkSink],
) -> None:
    """Gives the content chunks of a batch's rows to each sink. `keep`, `row_tokens`: (rows,) by row number of the run.

    ValueError if the columns do not fit together.
    """

def scan_records(
    records: Records | Piece,
    keep: NDArray[np.bool_],
    row_tokens: NDArray[np.float64] | None,
    sinks: Sequence[_ChunkSink],
    *,
    chosen: NDArray[np.bool_] | None = None,
) -> None:
    """As `scan_chunks` of all rows; the chunks never become numpy arrays, and what no sink asks for is not read.

    `chosen`: (rows,) of the records: the rows that `keep`, `row_tokens` and the sinks number, in their order; None: all.
    """

def order_statistics(values: NDArray[np.float64], ranks: Sequence[int]) -> NDArray[np.float64]:
    """The values at these ranks (0 is the smallest) if they were sorted. No NaN; a rank beyond the last value is the last's."""

def builtin_count(texts: Sequence[str]) -> NDArray[np.uint32]:
    """(texts,) tokens of OpenAI's o200k_base without special tokens; on all cores."""

def builtin_encode(text: str) -> list[int]: ...
def builtin_decode(ids: Sequence[int]) -> str:
    """Text of the tokens; bytes that are no UTF-8 (half a character) become U+FFFD. ValueError for an unknown id."""

def read_bytes(path: _Path) -> bytes:
    """A file's bytes, decompressed if they are gzip or Zstandard (told by their start). ValueError if they are damaged, or
    named `.gz`/`.zst` and something else.
    """

def read_parquet_columns(path: _Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any] | list[Any]]:
    """Columns of any Parquet file, by name; names it lacks are left out. None: all.

    Numbers without nulls: int64, uint64 or float64 arrays. All else: lists of None, bool, int, float, str, bytes, list (Parquet
    lists) or dict (structs). Instants and durations are integers in the file's own unit.
    """

def write_parquet_columns(
    path: _Path, columns: Mapping[str, NDArray[Any] | list[str | None]], metadata: Mapping[str, str] | None = None
) -> None:
    """Columns of equal length to a Parquet file (zstd): integers as int64, float64 with NaN as null, strings with None as null.

    `metadata`: into the footer. The file appears when it is complete. ValueError for columns of different lengths.
    """

@final
class Http2Questions:
    """A connection of HTTP/2 for small questions, one at a time, without its socket.

    Send what `output` returns, give `receive` what the socket brings. ValueError: not HTTP/2, or no answer, and why.
    """

    def __new__(cls) -> Self: ...
    def ask(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes, max_bytes: int) -> None:
        """`url` is whole. The body of the answer is cut at `max_bytes`."""
    def output(self) -> bytes:
        """Bytes to send; empty: none."""
    def receive(self, data: bytes) -> tuple[int, list[tuple[str, bytes]], bytes] | None:
        """The answer (status, headers with names in lower case, body) once it is whole. No bytes: the server has closed."""
    @property
    def is_open(self) -> bool:
        """May another question be asked?"""

@final
class MetricLines:
    """Lines of one metrics endpoint that were seen before, by their heads: all up to the value."""

    def __new__(cls) -> Self: ...
    def learn(self, heads: list[tuple[str, int | None]]) -> None:
        """(head, column) of lines; None: it is no measurement."""
    def read(self, text: str, width: int) -> NDArray[np.float64] | None:
        """(width,) values by column, NaN for those the text does not have; None if a line is new or a value is no number."""

def parse_otlp_json(text: bytes, wanted: set[str] | None = None) -> dict[str, Any]:
    """Spans of an export request as columns: `traces`, `parents`, `names` (lists of str, ids as written), `starts`, `ends` (int64 ns since the
    epoch); of each attribute `rows` (which span), `keys` (index in `key_names`) and `values` (str, bool, int, float).

    `wanted`: keys of the attributes to keep; None: all. ValueError: it is no such request, and why.
    """

@final
class SimServer:
    """The simulated LLM server on threads of its own; it accepts connections when the constructor returns.

    `options`: a JSON object (`aiperf sim --help`); the port is any free one unless given. ValueError: an unknown option or
    a value that cannot work. It stops at the end of a `with` block, or when it is garbage.
    """

    def __new__(cls, options: str = "{}") -> Self: ...
    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, `https://…` or `unix:/path`."""
    @property
    def port(self) -> int:
        """0 for a unix socket."""
    def stats(self) -> str:
        """Counters as a JSON object."""
    def flush_ledger(self) -> None:
        """Returns when every request whose last byte has left is in the ledger's file."""
    def stop(self) -> None:
        """Gives up the requests under way and writes the ledger; a second call does nothing."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Capture:
    """The proxy of `aiperf capture` on threads of its own; it accepts connections when the constructor returns.

    `options`: a JSON object with `listen` (host:port), `target` (URL), `output` (a file that does not exist yet), `salt` (hex),
    `block_size` (tokens), and perhaps `session_headers`, `ca_file`, `insecure`. ValueError: an option that cannot work; OSError:
    an address or a file. Without `builtin`, whoever made it has to answer `next_texts` until `is_written`.
    """

    def __new__(cls, options: str, *, builtin: bool) -> Self: ...
    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`: where clients connect."""
    def stats(self) -> str:
        """Counters as a JSON object."""
    def next_texts(self, timeout_s: float) -> list[str] | None:
        """Texts to tokenise, to be answered by `give_tokens`; None after so long without any, or when all is written."""
    def give_tokens(self, offsets: NDArray[np.int64], ids: NDArray[np.uint32]) -> None:
        """Tokens of the texts last asked for, one after the other: those of text i are `ids[offsets[i]:offsets[i + 1]]`."""
    def stop(self, grace_s: float) -> None:
        """Accepts no more, gives requests in flight so long to end, cuts off the rest. What has ended is written meanwhile."""
    @property
    def is_written(self) -> bool:
        """After `stop`: whether the trace is complete."""
    def wait(self) -> None:
        """After `stop`: returns when the trace is complete."""

@final
class BlockHasher:
    """Ids of prefixes: equal for equal prefixes, and without the salt no id can be checked against a guessed text.

    The id of a block is an HMAC-SHA256 (key: the salt) of the hash before it (at first 16 zero bytes), `text`, and of its tokens
    (32 bits each, little-endian): its first 16 bytes go into the next hash, its first 53 bits are the id.
    """

    def __new__(cls, salt: bytes, block_size: int) -> Self: ...
    def blocks(self, tokens: NDArray[np.uint32], marks: Sequence[tuple[int, bytes]] = ...) -> NDArray[np.int64]:
        """(blocks,) one id per block, the last one perhaps of a partial block, which has another id than the full one it may become.

        `marks`: parts that are no text, in order: tokens in front of each, and 16 bytes that tell it from others.
        """
    def name(self, what: bytes) -> str:
        """16 hex digits that are equal for equal `what`."""

def sim_presets() -> list[str]:
    """Names of the engine model's presets, a model on a GPU each."""

def simulate(
    options: str,
    prompt_tokens: NDArray[np.uint32],
    output_tokens: NDArray[np.uint32],
    *,
    arrivals_ns: NDArray[np.int64] | None = None,
    concurrency: int | None = None,
    count: int | None = None,
    prefix_tokens: NDArray[np.uint32] | None = None,
    prefix_id: NDArray[np.uint64] | None = None,
    keep_tokens: bool = False,
) -> dict[str, NDArray[Any]]:
    """Runs a load through the engine model of the simulated server on a virtual clock: minutes take milliseconds.

    `options`: engine options as JSON, an object or a preset's name in quotes. The requests (`prompt_tokens` long, of which the
    first `prefix_tokens` are shared by all of the same `prefix_id`) are gone through in a cycle: at `arrivals_ns` (ascending), or
    `count` of them (None: each once) with `concurrency` in flight.
    Columns, in order of sending: `sent`, `scheduled`, `first`, `last` float64 ns, NaN where it never came to it;
    `prompt_tokens`, `output_tokens`, `cached_tokens`, `preemptions`, `recomputed_tokens` (after them), `swapped_blocks`,
    `peak_blocks` (held at once) uint32; `refused` bool (too long); with `keep_tokens` the time of each
    token: `token_ns` int64, row i at [token_offsets[i], token_offsets[i + 1]).
    """
