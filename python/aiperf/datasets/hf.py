"""`hf`: any dataset of the Hugging Face hub, or a local Parquet, JSON Lines, JSON or CSV file, with its columns named.

From the hub the Parquet copy is read that the hub keeps of every dataset. Which columns hold what is told by options; left
out, well-known names are looked for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets._records import iter_csv, iter_lines, iter_objects, media_url, read_json, shown
from aiperf.errors import DatasetError
from aiperf.session import Message, Part, Session, Turn

__all__ = ["FIELDS", "KNOWN", "SAMPLING", "Options", "load"]

FIELDS: tuple[frozenset[str], ...] = ()
SAMPLING = "sequential"

KNOWN: Mapping[str, Mapping[str, str]] = {
    "aimo": {"dataset": "AI-MO/NuminaMath-TIR", "prompt_field": "problem"},
    "aimo_aime": {"dataset": "AI-MO/aimo-validation-aime", "prompt_field": "problem"},
    "aimo_numina_cot": {"dataset": "AI-MO/NuminaMath-CoT", "prompt_field": "problem"},
    "aimo_numina_1_5": {"dataset": "AI-MO/NuminaMath-1.5", "prompt_field": "problem"},
    "mmstar": {"dataset": "Lin-Chen/MMStar", "split": "val", "prompt_field": "question", "image_field": "image"},
    "instruct_coder": {"dataset": "likaixin/InstructCoder", "prompt_field": "instruction"},
    "blazedit_5k": {"dataset": "vdaita/edit_5k_char", "prompt_field": "change_request"},
    "blazedit_10k": {"dataset": "vdaita/edit_10k_char", "prompt_field": "change_request"},
    "spec_al_gsm8k": {"dataset": "openai/gsm8k", "subset": "main", "split": "test", "prompt_field": "question"},
    "spec_al_math500": {"dataset": "HuggingFaceH4/MATH-500", "split": "test", "prompt_field": "problem"},
    "spec_al_humaneval": {"dataset": "openai/openai_humaneval", "split": "test", "prompt_field": "prompt"},
    "spec_al_mbpp": {
        "dataset": "google-research-datasets/mbpp",
        "subset": "full",
        "split": "test",
        "prompt_field": "text",
    },
    "spec_al_mtbench": {"dataset": "HuggingFaceH4/mt_bench_prompts", "turns_field": "prompt"},
    "llava_onevision": {
        "dataset": "lmms-lab/LLaVA-OneVision-Data",
        "subset": "sharegpt4o",
        "messages_field": "conversations",
        "image_field": "image",
    },
    "vision_arena": {
        "dataset": "lmarena-ai/VisionArena-Chat",
        "messages_field": "conversation",
        "image_field": "images",
    },
}
"""AIPerf's `--public-dataset` names, as options."""

_PROMPTS = ("prompt", "text", "question", "problem", "instruction", "query", "input")
_MESSAGES = ("messages", "conversations", "conversation")


class Options(DatasetOptions):
    dataset: str | None = Field(default=None, description="Name on the hub, instead of a file")
    subset: str | None = Field(default=None, description="Configuration of the dataset")
    split: str = Field(default="train", description="Split of the dataset")
    prompt_field: str | None = Field(
        default=None, description="Column of the prompt; default: prompt, text, question, …"
    )
    turns_field: str | None = Field(default=None, description="Column with the list of a conversation's questions")
    messages_field: str | None = Field(default=None, description="Column with a list of chat messages")
    turns: Literal["first", "all"] = Field(default="first", description="Of messages: the first question or all")
    system_field: str | None = Field(default=None, description="Column of the system message")
    answer_field: str | None = Field(default=None, description="Column of the answer: its tokens are the output length")
    output_length_field: str | None = Field(default=None, description="Column of the output length, tokens")
    image_field: str | None = Field(default=None, description="Column of an image or a list of images")
    id_field: str | None = Field(default=None, description="Column of the session's id")


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    if not isinstance(options, Options):
        raise TypeError("hf.load takes hf.Options")
    if options.path is not None:
        files, shown_name = [options.path], str(options.path)
    elif options.dataset is not None:
        from aiperf.datasets._hub import parquet_files

        files, shown_name = parquet_files(options.dataset, options.subset, options.split), options.dataset
    else:
        raise DatasetError("`hf` needs a file or a name on the hub", "give `--input-file` or `--public-dataset NAME`")
    seen: set[str] = set()
    columns: _Columns | None = None
    row = 0
    for file in files:
        for record in _records(file, options):
            row += 1
            if columns is None:
                columns = _Columns.find(options, record, shown_name)
            session = _session(record, row, columns, options, file)
            if session is None:
                continue
            name = session.id if session.id not in seen else f"{session.id} (row {row})"
            seen.add(name)
            yield Session(name, session.turns, session.system)
    if not row:
        raise DatasetError(f"cannot read the dataset: `{shown_name}` has no rows")


class _Columns:
    """Which of the record's columns hold what."""

    def __init__(self, prompt: str | None, turns: str | None, messages: str | None) -> None:
        self.prompt, self.turns, self.messages = prompt, turns, messages

    @classmethod
    def find(cls, options: Options, record: Mapping[str, object], where: str) -> _Columns:
        """DatasetError for a column that was named and is not there, or if none was named or found."""
        has = ", ".join(f"`{k}`" for k in record)
        for option in ("prompt", "turns", "messages", "system", "answer", "output_length", "image", "id"):
            name = getattr(options, f"{option}_field")
            if name is not None and name not in record:
                raise DatasetError(f"`{where}` has no column `{name}` ({option}_field)", f"columns: {has}")
        if options.prompt_field or options.turns_field or options.messages_field:
            return cls(options.prompt_field, options.turns_field, options.messages_field)
        for name in _MESSAGES:
            if isinstance(record.get(name), list):
                return cls(None, None, name)
        for name in _PROMPTS:
            if isinstance(record.get(name), str):
                return cls(name, None, None)
        raise DatasetError(
            f"cannot tell which column of `{where}` holds the prompt",
            f"columns: {has}. Use `--dataset-option prompt_field=NAME` (or `messages_field`)",
        )


def _records(file: Path, options: Options) -> Iterator[Mapping[str, object]]:
    suffixes = [s for s in file.suffixes if s not in {".gz", ".zst"}]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        yield from _parquet(file, options)
    elif kind == ".csv":
        for _, row in iter_csv(file):
            yield row
    elif kind == ".json" and next(iter_lines(file))[1].lstrip().startswith(b"["):
        listed = read_json(file)
        for i, record in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(record, dict):
                yield record
            else:
                options.invalid(f"item {i} of `{file}`", f"is not a JSON object; found {shown(record)}")
    else:
        for _, record in iter_objects(file, options):
            yield record


def _parquet(file: Path, options: Options) -> Iterator[Mapping[str, object]]:
    from aiperf._core import read_parquet_columns

    named = [options.prompt_field, options.turns_field, options.messages_field]
    wanted = None
    if any(named):
        more = (
            options.system_field,
            options.answer_field,
            options.output_length_field,
            options.image_field,
            options.id_field,
        )
        wanted = [name for name in (*named, *more) if name is not None]
    try:
        columns = read_parquet_columns(str(file), wanted)
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read the dataset: there is no file `{file}`") from error
    except (ValueError, OSError) as error:
        raise DatasetError(f"cannot read the dataset: `{file}`: {error}") from error
    names = list(columns)
    for name in wanted or ():
        if name not in columns:
            raise DatasetError(
                f"`{file}` has no column `{name}`", "leave out the option to see which columns there are"
            )
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _session(record: Mapping[str, object], row: int, columns: _Columns, options: Options, file: Path) -> Session | None:
    """None for a broken record."""

    def broken(field: str, wanted: str) -> None:
        options.invalid(
            f"row {row} of `{file}`", f"field `{field}`: expected {wanted}; found {shown(record.get(field))}"
        )

    system: tuple[Part, ...] = ()
    if options.system_field is not None and isinstance(record.get(options.system_field), str):
        system = (str(record[options.system_field]),) if record[options.system_field] else ()
    pairs: list[tuple[str, str | None]]
    if columns.messages is not None:
        said = record.get(columns.messages)
        if not isinstance(said, Sequence) or isinstance(said, str):
            broken(columns.messages, "a list of messages")
            return None
        spoken, pairs = _pairs(said)
        system = system or ((spoken,) if spoken else ())
        pairs = pairs if options.turns == "all" else pairs[:1]
        if not pairs:
            broken(columns.messages, "a message of the user")
            return None
    elif columns.turns is not None:
        asked = record.get(columns.turns)
        if (
            not isinstance(asked, Sequence)
            or isinstance(asked, str)
            or not all(isinstance(q, str) and q for q in asked)
        ):
            broken(columns.turns, "a list of texts")
            return None
        pairs = [(q, None) for q in asked]
    else:
        prompt = record.get(columns.prompt or "")
        if not isinstance(prompt, str) or not prompt:
            broken(columns.prompt or "", "text")
            return None
        answer = record.get(options.answer_field) if options.answer_field else None
        pairs = [(prompt, answer if isinstance(answer, str) and answer else None)]
    osl = record.get(options.output_length_field) if options.output_length_field else None
    if osl is not None:
        try:
            osl = int(str(osl))
        except ValueError:
            broken(options.output_length_field or "", "a number of tokens")
            return None
    images = _images(record.get(options.image_field), file) if options.image_field else ()
    turns = tuple(
        Turn(
            messages=(Message("user", (text,), images=images if i == 0 else ()),),
            osl=osl if isinstance(osl, int) and osl > 0 else None,
            expected=answer,
        )
        for i, (text, answer) in enumerate(pairs)
    )
    name = (
        str(record[options.id_field]) if options.id_field and record.get(options.id_field) is not None else f"row-{row}"
    )
    return Session(name, turns, system)


def _pairs(said: Sequence[object]) -> tuple[str | None, list[tuple[str, str | None]]]:
    """System text, and questions with the recorded answers; a list in a list is one level of nesting too many."""
    if len(said) == 1 and isinstance(said[0], list):
        said = said[0]
    system: str | None = None
    pairs: list[tuple[str, str | None]] = []
    for item in said:
        if not isinstance(item, Mapping):
            continue
        role, text = item.get("role", item.get("from")), item.get("content", item.get("value"))
        if not isinstance(text, str) or not text:
            continue
        if role == "system" and not pairs:
            system = text
        elif role in {"user", "human"}:
            pairs.append((text, None))
        elif role in {"assistant", "gpt", "model"} and pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], text)
    return system, pairs


def _images(value: object, file: Path) -> tuple[str, ...]:
    """From URLs, files, bytes, or the hub's `{"bytes", "path"}`."""
    items = value if isinstance(value, list) else [value]
    found = []
    for item in items:
        data = item.get("bytes") if isinstance(item, Mapping) else item
        if isinstance(data, bytes):
            mime = (
                "image/png" if data.startswith(b"\x89PNG") else "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"
            )
            found.append(f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}")
        elif isinstance(item, str) and item:
            found.append(media_url(item, file.parent, "image"))
        elif isinstance(item, Mapping) and isinstance(item.get("path"), str):
            found.append(media_url(str(item["path"]), file.parent, "image"))
    return tuple(found)
