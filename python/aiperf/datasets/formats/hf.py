"""`hf`: any dataset of the Hugging Face hub, or a local Parquet, JSON Lines, JSON or CSV file, with its columns named.

From the hub the Parquet copy is read that the hub keeps of every dataset. Which columns hold what is told by options; left
out, well-known names are looked for.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.audio import audio_of
from aiperf.datasets.entry import MAX_TOKENS
from aiperf.datasets.row_filter import matches
from aiperf.datasets.rows import iter_objects, media_url
from aiperf.errors import DatasetError
from aiperf.reading.lines import kind_of
from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.reading.records import iter_csv
from aiperf.session import Message, Part, Session, Turn

__all__ = ["ELSEWHERE", "FIELDS", "KNOWN", "SAMPLING", "Options", "load"]

FIELDS = tuple(frozenset({name}) for name in ("prompt", "question", "problem", "instruction", "query"))
SAMPLING = "sequential"

_EDIT = (
    "Given a code file, please apply the change requests and generate the new file.\n\nOriginal file:\n```python\n{code}\n```\n\n"
    'Change request:\n{change_request}\n\nPlease generate the new code file in the "New file" section below.'
)
"""vLLM's and AIPerf's prompt of this benchmark."""
_SPEECH = {"audio_field": "audio", "prompt_text": "Transcribe this audio."}

ELSEWHERE: Mapping[str, str] = {
    "spec_bench": (
        "it is not on the hub: download `question.jsonl` of https://github.com/hemingkx/Spec-Bench (data/spec_bench) and give "
        "`--input-file question.jsonl --custom-dataset-type hf --dataset-option turns_field=turns`"
    ),
}
"""AIPerf's names that are no table of prompts on the hub, and what to do instead."""

KNOWN: Mapping[str, Mapping[str, str]] = {
    "aimo": {"dataset": "AI-MO/NuminaMath-TIR", "prompt_field": "problem"},
    "aimo_aime": {"dataset": "AI-MO/aimo-validation-aime", "prompt_field": "problem"},
    "aimo_numina_cot": {"dataset": "AI-MO/NuminaMath-CoT", "prompt_field": "problem"},
    "aimo_numina_1_5": {"dataset": "AI-MO/NuminaMath-1.5", "prompt_field": "problem"},
    "mmstar": {"dataset": "Lin-Chen/MMStar", "split": "val", "prompt_field": "question", "image_field": "image"},
    "instruct_coder": {"dataset": "likaixin/InstructCoder", "prompt_field": "instruction"},
    "blazedit_5k": {"dataset": "vdaita/edit_5k_char", "prompt_field": "change_request", "prompt_template": _EDIT},
    "blazedit_10k": {"dataset": "vdaita/edit_10k_char", "prompt_field": "change_request", "prompt_template": _EDIT},
    "mmvu": {
        "dataset": "yale-nlp/MMVU",
        "split": "validation",
        "prompt_field": "question",
        "choices_field": "choices",
        "video_field": "video",
    },
    "librispeech": {"dataset": "openslr/librispeech_asr", "subset": "clean", "split": "test", **_SPEECH},
    "voxpopuli": {"dataset": "facebook/voxpopuli", "subset": "en", "split": "test", **_SPEECH},
    "gigaspeech": {"dataset": "speechcolab/gigaspeech", "subset": "xs", "split": "test", **_SPEECH},
    "ami": {"dataset": "edinburghcstr/ami", "subset": "ihm", "split": "test", **_SPEECH},
    "spgispeech": {"dataset": "kensho/spgispeech", "subset": "test", "split": "test", **_SPEECH},
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

_COLUMNS = ("system", "answer", "output_length", "image", "audio", "video", "choices", "id")
_BRACED = re.compile(r"\{(\w+)\}")
_PROMPTS = ("prompt", "text", "question", "problem", "instruction", "query", "input")
_MESSAGES = ("messages", "conversations", "conversation")


class Options(DatasetOptions):
    dataset: str | None = Field(default=None, description="Name on the hub, instead of a file")
    subset: str | None = Field(default=None, description="Configuration of the dataset")
    split: str = Field(default="train", description="Split of the dataset")
    prompt_field: str | None = Field(
        default=None, description="Column of the prompt; default: prompt, text, question, …"
    )
    prompt_template: str | None = Field(
        default=None, description="Text of the prompt with `{column}` for the values of columns"
    )
    prompt_text: str | None = Field(default=None, description="One prompt for all rows, beside their media")
    choices_field: str | None = Field(default=None, description="Column of choices by letter, put behind the prompt")
    audio_field: str | None = Field(default=None, description="Column of audio, at most 30 s long")
    video_field: str | None = Field(default=None, description="Column of a video, or of its URL")
    turns_field: str | None = Field(default=None, description="Column with the list of a conversation's questions")
    messages_field: str | None = Field(default=None, description="Column with a list of chat messages")
    turns: Literal["first", "all"] = Field(default="first", description="Of messages: the first question or all")
    system_field: str | None = Field(default=None, description="Column of the system message")
    answer_field: str | None = Field(default=None, description="Column of the answer: its tokens are the output length")
    output_length_field: str | None = Field(default=None, description="Column of the output length, tokens")
    image_field: str | None = Field(default=None, description="Column of an image or a list of images")
    id_field: str | None = Field(default=None, description="Column of the session's id")
    filters: dict[str, str] = Field(
        default_factory=dict, description="Only rows whose columns have these values; dots lead into objects"
    )


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    if not isinstance(options, Options):
        raise TypeError("hf.load takes hf.Options")
    if options.path is not None:
        files, shown_name = [options.path], str(options.path)
    elif options.dataset is not None:
        from aiperf.datasets.hub import parquet_files

        files, shown_name = parquet_files(options.dataset, options.subset, options.split), options.dataset
    else:
        raise DatasetError("`hf` needs a file or a name on the hub", "give `--input-file` or `--public-dataset NAME`")
    seen: set[str] = set()
    columns: _Columns | None = None
    row = 0
    for file in files:
        unit = "row" if kind_of(file) == "parquet" else None
        for number, record in _records(file, options):
            row += 1
            if not matches(record, options.filters, shown_name):
                continue
            if columns is None:
                columns = _Columns.find(options, record, shown_name)
            try:
                session = _session(record, row, columns, options, file)
            except BadField as bad:
                options.invalid(file, number, bad, unit)
                continue
            name = session.id if session.id not in seen else f"{session.id} (row {row})"
            seen.add(name)
            yield Session(name, session.turns, session.system)
    if not row:
        raise DatasetError(f"cannot read `{shown_name}`: none of its rows can be used")
    if columns is None:
        shown = ", ".join(f"{name}={value}" for name, value in options.filters.items())
        raise DatasetError(f"no row of `{shown_name}` has {shown}", "change or leave out `--dataset-filter`")
    if columns is not None and columns.is_guess and options.path is not None:
        columns.tell(options, shown_name, row)


class _Columns:
    """Which of the record's columns hold what."""

    def __init__(
        self, prompt: str | None, turns: str | None, messages: str | None, guessed_from: tuple[str, ...] = ()
    ) -> None:
        self.prompt, self.turns, self.messages = prompt, turns, messages
        self.guessed_from = guessed_from
        """All columns, if this one was not named by an option."""

    @property
    def is_guess(self) -> bool:
        return bool(self.guessed_from)

    def tell(self, options: Options, where: str, count: int) -> None:
        """Note which column was taken, for how many rows, and how to name another."""
        taken, option = (self.prompt, "prompt_field") if self.prompt else (self.messages, "messages_field")
        named = {getattr(options, f"{o}_field") for o in _COLUMNS}
        others = [c for c in self.guessed_from if c != taken and c not in named]
        rest = f"; not used: {fields_of(others)}" if others else ""
        text = f"prompts of `{where}` ({count:,} rows) are taken from `{taken}`{rest}; name another with `--dataset-option {option}=NAME`"
        options.note("column_guessed", text, column=taken, count=count, unused=others)

    @classmethod
    def find(cls, options: Options, record: Mapping[str, object], where: str) -> _Columns:
        """DatasetError for a column that was named and is not there, or if none was named or found."""
        has = ", ".join(f"`{k}`" for k in record)
        for option in (*_COLUMNS, "prompt", "turns", "messages"):
            name = getattr(options, f"{option}_field")
            if name is not None and name not in record:
                raise DatasetError(f"`{where}` has no column `{name}` ({option}_field)", f"columns: {has}")
        if options.prompt_field or options.turns_field or options.messages_field or options.prompt_text:
            return cls(options.prompt_field, options.turns_field, options.messages_field)
        for name in _MESSAGES:
            if isinstance(record.get(name), list):
                return cls(None, None, name, tuple(record))
        for name in _PROMPTS:
            if isinstance(record.get(name), str):
                return cls(name, None, None, tuple(record))
        raise DatasetError(
            f"cannot determine which column of `{where}` holds the prompt",
            f"columns: {has}. Use `--dataset-option prompt_field=NAME` (or `messages_field`)",
        )


def _records(file: Path, options: Options) -> Iterator[tuple[int, Mapping[str, object]]]:
    """(line, item or row from 1, record)."""
    kind = kind_of(file)
    if kind == "parquet":
        yield from enumerate(_parquet(file, options), 1)
    elif kind == "csv":
        rows = iter_csv(file)
        next(rows)
        for number, row in rows:
            if isinstance(row, BadField):
                options.invalid(file, number, row)
            else:
                yield number, row
    else:
        yield from iter_objects(file, options)


def _parquet(file: Path, options: Options) -> Iterator[Mapping[str, object]]:
    from aiperf._core import read_parquet_columns

    named = [options.prompt_field, options.turns_field, options.messages_field]
    wanted = None
    if any(named) or options.prompt_text:
        more = [getattr(options, f"{o}_field") for o in _COLUMNS]
        braced = _BRACED.findall(options.prompt_template or "")
        filtered = [path.partition(".")[0] for path in options.filters]
        wanted = list(dict.fromkeys(name for name in (*named, *more, *braced, *filtered) if name is not None))
    try:
        columns = read_parquet_columns(str(file), wanted)
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read `{file}`: there is no file `{file}`") from error
    except (ValueError, OSError) as error:
        raise DatasetError(f"cannot read `{file}`: {error}") from error
    names = list(columns)
    for name in wanted or ():
        if name not in columns:
            raise DatasetError(
                f"`{file}` has no column `{name}`", "leave out the option to see which columns there are"
            )
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _session(record: Mapping[str, object], row: int, columns: _Columns, options: Options, file: Path) -> Session:
    """BadField for a broken record."""

    def broken(field: str | None, wanted: str) -> BadField:
        return BadField(field, wanted, quote(record.get(field or "")))

    told = record.get(options.system_field or "")
    system: tuple[Part, ...] = (told,) if isinstance(told, str) and told else ()
    pairs: list[tuple[str, str | None]]
    if columns.messages is not None:
        said = record.get(columns.messages)
        if not isinstance(said, Sequence) or isinstance(said, str):
            raise broken(columns.messages, "a list of messages")
        spoken, pairs = _pairs(said)
        system = system or ((spoken,) if spoken else ())
        pairs = pairs if options.turns == "all" else pairs[:1]
        if not pairs:
            raise broken(columns.messages, "a message of the user")
    elif columns.turns is not None:
        asked = record.get(columns.turns)
        if (
            not isinstance(asked, Sequence)
            or isinstance(asked, str)
            or not all(isinstance(q, str) and q for q in asked)
        ):
            raise broken(columns.turns, "a list of texts")
        pairs = [(q, None) for q in asked]
    elif options.prompt_text is not None:
        pairs = [(options.prompt_text, None)]
    else:
        prompt = record.get(columns.prompt or "")
        if not isinstance(prompt, str) or not prompt:
            raise broken(columns.prompt, "text")
        prompt = _written_out(prompt, record, options)
        answer = record.get(options.answer_field) if options.answer_field else None
        pairs = [(prompt, answer if isinstance(answer, str) and answer else None)]
    osl = record.get(options.output_length_field) if options.output_length_field else None
    if osl is not None:
        try:
            osl = int(str(osl))
        except ValueError as error:
            raise broken(options.output_length_field, "a number of tokens") from error
        if osl > MAX_TOKENS:
            raise broken(options.output_length_field, f"at most {MAX_TOKENS:,} tokens")
    images = _images(record.get(options.image_field), file) if options.image_field else ()
    audios = audio_of(record.get(options.audio_field), options.audio_field) if options.audio_field else ()
    videos = _videos(record.get(options.video_field), file) if options.video_field else ()
    turns = tuple(
        Turn(
            messages=(
                Message(role="user", parts=(text,), images=images, audios=audios, videos=videos)
                if number == 0
                else Message(role="user", parts=(text,)),
            ),
            osl=osl if isinstance(osl, int) and osl > 0 else None,
            expected=answer,
        )
        for number, (text, answer) in enumerate(pairs)
    )
    name = (
        str(record[options.id_field]) if options.id_field and record.get(options.id_field) is not None else f"row-{row}"
    )
    return Session(name, turns, system)


def _written_out(prompt: str, record: Mapping[str, object], options: Options) -> str:
    """The prompt with its choices, or in its template. A column that the template names and the row has not is left as it stands."""
    choices = record.get(options.choices_field or "")
    if isinstance(choices, Mapping):
        listed = " ".join(f"{letter}.{text}" for letter, text in choices.items() if text)
        prompt = f"{prompt} {listed}" if listed else prompt
    if options.prompt_template is None:
        return prompt
    return _BRACED.sub(lambda found: str(record.get(found[1], found[0])), options.prompt_template)


def _videos(value: object, file: Path) -> tuple[str, ...]:
    """From a URL, a file, or the hub's `{"bytes", "path"}`."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(data, bytes):
        return (f"data:video/mp4;base64,{base64.b64encode(data).decode('ascii')}",)
    name = value.get("path") if isinstance(value, Mapping) else value
    return (media_url(name, file.parent, "video"),) if isinstance(name, str) and name else ()


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
    images = []
    for item in items:
        data = item.get("bytes") if isinstance(item, Mapping) else item
        if isinstance(data, bytes):
            mime = (
                "image/png" if data.startswith(b"\x89PNG") else "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"
            )
            images.append(f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}")
        elif isinstance(item, str) and item:
            images.append(media_url(item, file.parent, "image"))
        elif isinstance(item, Mapping) and isinstance(item.get("path"), str):
            images.append(media_url(str(item["path"]), file.parent, "image"))
    return tuple(images)
