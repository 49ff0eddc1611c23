"""When the load has ended: the journal becomes `records.parquet`, tokens counted, and `profile_export.jsonl` is written in the same pass."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiperf.background import beside
from aiperf.errors import ResultError
from aiperf.records import Columns
from aiperf.records.columns import Floats
from aiperf.records.schema import JOURNAL_DIR
from aiperf.records.store import Finalised, RecordsNotWritten, ServerColumns, finalise
from aiperf.reports.writing import Outputs, part_of
from aiperf.run.live_requests import LiveRequests, jsonl_options
from aiperf.run.run import Run
from aiperf.workload.tokenizers import Tokenizer

__all__ = ["reuse_memory", "seal"]

_KEPT_BYTES = 1 << 29


def seal(
    run: Run,
    tokenizer: Tokenizer | None,
    outputs: Outputs,
    *,
    write_jsonl: bool = True,
    recount: bool = False,
    live: LiveRequests | None = None,
    server: ServerColumns | None = None,
) -> Run:
    """Journal → Parquet with token counts, and the JSONL in the same pass: the run with its `counted` columns and `written` files.

    `tokenizer` None: tokens are not counted (again). `live`: what of the JSONL was written during the load. `server`: what spans say of the rows. A file that cannot be written costs itself alone (`outputs.problems`).

    Where space is short the two may fail each other: then one is made after the other, the records first.
    """
    config, files = run.config, run.files
    target = files.records
    is_done = target.exists() and not (files.run_dir / JOURNAL_DIR).exists()
    if is_done and not write_jsonl and not recount and server is None:
        return run  # a report from disk: no pass over all chunks for nothing
    jsonl = _Requests(run, is_wanted=write_jsonl and config.output.export_level != "summary", live=live)

    def convert(append: Callable[[Columns], None], *, write: bool = True) -> Finalised:
        return finalise(
            files.run_dir,
            None if tokenizer is None else tokenizer.count,
            append,
            keep_texts=config.output.export_level == "raw" or config.output.export_outputs_json,
            recount=recount,
            write=write,
            server=server,
        )

    counted: Mapping[str, Floats] = {}
    failed: ResultError | None = None
    try:
        counted = convert(jsonl.append).counted
    except RecordsNotWritten:
        jsonl.restart()
        try:
            convert(lambda _: None)
        except RecordsNotWritten as error:
            failed = error
            counted = convert(jsonl.append, write=False).counted
        else:
            recount = False
            convert(jsonl.append)
    jsonl.finish()
    if jsonl.error is not None and failed is None:
        recount = False
        jsonl.restart()
        convert(jsonl.append)
        jsonl.finish()
    if failed is not None:
        outputs.fail("records", target, failed)
    if jsonl.is_wanted:
        jsonl.publish()
        if jsonl.error is not None:
            outputs.fail("requests", files.jsonl, jsonl.error)
    _give_memory_back()
    return run.with_records(counted)


class _Requests:
    """`profile_export.jsonl` while it is written. `error`: why it cannot be.

    Lines that were written during the load stay where they are, the others are appended; where that cannot be, the file is
    made anew under another name. A batch's lines are written while the next batch is built.
    """

    def __init__(self, run: Run, *, is_wanted: bool, live: LiveRequests | None) -> None:
        self.is_wanted = is_wanted
        self.error: OSError | None = None
        self._path = run.files.jsonl
        self._target = part_of(self._path)
        self._options = jsonl_options(run)
        self._skipped = 0
        self._writing: Callable[[], int] | None = None
        if is_wanted and live is not None and live.continues(self._options):
            self._target, self._skipped = self._path, live.rows
        elif is_wanted:
            self.restart()

    def restart(self) -> None:
        if self.is_wanted:
            self.finish()
            self.error = None
            self._target, self._skipped = part_of(self._path), 0
            try:
                self._target.unlink(missing_ok=True)
                # What a run wrote of it meanwhile takes space that may be short.
                self._path.unlink(missing_ok=True)
                self._target.touch()
            except OSError as error:
                self.error = error

    def append(self, columns: Columns) -> None:
        from aiperf._core import write_jsonl
        from aiperf.reports.requests_jsonl import build_jsonl

        skipped = min(self._skipped, columns.num_rows)
        self._skipped -= skipped
        if not self.is_wanted or self.error is not None or skipped == columns.num_rows:
            return
        batch = build_jsonl(columns, self._options)
        self.finish()
        if self.error is None:
            target = self._target
            self._writing = beside(lambda: write_jsonl(target, batch, first=skipped), "aiperf-lines")

    def finish(self) -> None:
        """Waits for the batch that is being written: all lines are there, or there is an `error`."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing()
        except OSError as error:
            self.error = error
            with suppress(OSError):  # it costs space only; the error above is told
                self._target.unlink()

    def publish(self) -> None:
        if self.error is None and self._target != self._path:
            try:
                self._target.replace(self._path)
            except OSError as error:
                self.error = error


def reuse_memory() -> None:
    """For a process that makes one pass after the other over many chunks: what a piece has freed is kept for the next one.

    glibc would give arrays of some MB back at once and ask for new ones, whose pages the kernel fills with zeros first: a third of the
    CPU time of merging a million requests.
    """
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of mallopt(3)
    with suppress(OSError, AttributeError):  # not glibc: memory is kept as the allocator likes
        for option in (mmap, trim):
            ctypes.CDLL(None).mallopt(option, _KEPT_BYTES)


def _give_memory_back() -> None:
    """What the conversion has freed; glibc's allocator would keep it, and metrics begin with arrays of their own."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
