"""Workload: from the configuration to the plan the engine runs, and what is worth knowing of it.

`build_workload` is the one door: synthetic prompts, a dataset or a trace, by the configuration.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from aiperf.config.model import Config
from aiperf.config.part import parse_start, salt_of
from aiperf.endpoints import BodyOptions, Endpoint, endpoint_of, has_length
from aiperf.errors import ConfigError, DatasetError, Note, Problem
from aiperf.session import Message, Part, Session, Synthetic, Turn
from aiperf.workload.agents import build_agent_plan
from aiperf.workload.inputs import with_text
from aiperf.workload.media import Content, MediaPools
from aiperf.workload.plan import PlanOptions, PlanTables, TemplateTokens, build_block_plan, build_plan
from aiperf.workload.ranking import NAMES as RANKING_NAMES
from aiperf.workload.ranking import build_ranking_plan, ranking_options
from aiperf.workload.ready_bodies import ReadyBodies
from aiperf.workload.segments import UNKNOWN
from aiperf.workload.synthetic import CACHE_BUST_TOKENS, SyntheticOptions, build_synthetic_plan, synthetic_options
from aiperf.workload.tokenizers import Tokenizer
from aiperf.workload.vocabulary import EncodedText, TextSource

if TYPE_CHECKING:
    from aiperf._core import Vocabulary
    from aiperf.traces.agents import AgentTable
    from aiperf.traces.replay import Replay
    from aiperf.workload.source import Data

__all__ = ["Workload", "build_workload", "seed_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`sampling`: the order its sessions are meant to be issued in, unless the user says otherwise. `seed`: as used."""

    kind: str
    """`synthetic`, or the name of the dataset's or trace's format."""
    plan: PlanTables
    source: TextSource = field(repr=False)
    sampling: Literal["sequential", "random", "shuffle"]
    seed: int
    fingerprint: Mapping[str, str]
    """Two runs with equal values sent equal requests: `workload`, `tokenizer`, `seed`, `plan`, and `data` for a file."""
    notes: tuple[Note, ...] = ()
    agents: AgentTable | None = field(default=None, repr=False)
    """Of recorded agent sessions."""
    benchmark_id: str = ""
    """New for each run, unless the user gave one."""

    @property
    def is_timestamped(self) -> bool:
        """Has every session a time of its own?"""
        first = np.flatnonzero(np.diff(self.plan.columns["session"].astype(np.int64), prepend=-1))
        return bool(np.all(self.plan.columns["at_ns"][first].astype(np.int64) >= 0))

    @property
    def vocabulary(self) -> Vocabulary | None:
        """For the engine; None if all text is written out in the plan."""
        return None if isinstance(self.source, EncodedText) else cast("Vocabulary", self.source)


def seed_of(config: Config) -> int:
    """The user's, or a drawn one below 2³²: draw once per run and record it."""
    return secrets.randbits(32) if config.input.random_seed is None else config.input.random_seed


_OPEN_ENDED = Note(
    "open_ended",
    "no output length is requested, so each response is as long as the model makes it; `--osl 128` limits it",
)


def _open_data(config: Config, rng: np.random.Generator) -> Data | None:
    """None if the load is synthetic, which needs no reader of files."""
    if (config.input.input_file, config.input.public_dataset, config.agentic.hf_dataset) == (None, None, None):
        _refuse_recorded_history(config)
        return None
    from aiperf.workload.source import open_data

    return open_data(config, rng)


def _refuse_recorded_history(config: Config) -> None:
    """ConfigError for options of recorded conversations where there are none."""
    a = config.agentic
    given = [("--agentic-history", a.history is not None), ("--agentic-tool-messages", a.tool_messages)]
    problems = [
        Problem("a synthetic load has no recorded conversations", flag, "give them with `--input-file`")
        for flag, is_given in given
        if is_given
    ]
    if problems:
        raise ConfigError(tuple(problems))


def build_workload(
    config: Config,
    tokenizer: Tokenizer,
    source: TextSource,
    seed: int,
    *,
    ignore_eos: bool | None = None,
    content: Content | None = None,
) -> Workload:
    """ConfigError, DatasetError if there is nothing to send or the data cannot be read. `content`: where media are fetched from.

    `ignore_eos`: what `auto` came to for this server; None: only if the user said `on`.
    """
    endpoint = endpoint_of(config)
    # One generator each, so that an option of one part does not change what another draws.
    rng, lengths_rng, front_rng = np.random.default_rng(seed).spawn(3)
    notes: list[Note] = []
    system_prompt = _system_prompt(config)
    plan_options = PlanOptions(
        models=config.endpoint.model_names,
        body=_body_options(config, endpoint, ignore_eos=ignore_eos),
        model_strategy=config.endpoint.model_selection_strategy,
        seed=seed,
        template_tokens=_template_tokens(config, endpoint, tokenizer, notes),
    )
    data = _open_data(config, rng)
    fingerprint = {"tokenizer": tokenizer.fingerprint, "seed": str(seed)}
    sampling: Literal["sequential", "random", "shuffle"] = "sequential"
    if data is None:
        options = synthetic_options(config, system_prompt)
        if endpoint.features.texts == RANKING_NAMES:
            plan = build_ranking_plan(ranking_options(config), options, endpoint, plan_options, rng)
        else:
            tokens = _system_tokens(tokenizer, options, system_prompt)
            media = _pools(config, endpoint, options, seed, content, notes)
            plan = build_synthetic_plan(options, endpoint, plan_options, rng, tokens, media)
        kind, sampling = "synthetic", "sequential" if options.entries is None else "shuffle"
    else:
        kind, sampling = data.kind, data.sampling
        if data.agents is not None:
            plan = build_agent_plan(data.agents, endpoint, plan_options)
        elif data.replay is not None and _is_blocks_only(data.replay, config):
            plan = build_block_plan(data.replay.columns, data.replay.session_ids(), endpoint, plan_options)
        else:
            ready = ReadyBodies(config, endpoint, plan_options.body)
            from aiperf.workload.source import with_lengths

            sessions = with_lengths(data.sessions(), config, data.limits, tokenizer, lengths_rng)
            decorated = _decorated(ready.watch(sessions), config, system_prompt, front_rng)
            plan = _planned(decorated, endpoint, plan_options, tokenizer, data)
            notes += ready.notes()
        notes += data.notes()
        if data.digest:
            fingerprint["data"] = data.digest
    notes += _length_notes(config, plan_options.body, plan)
    if kind == "synthetic" and endpoint.features.tokens_out and not _has_lengths(plan, plan_options.body):
        notes.append(_OPEN_ENDED)
    if isinstance(source, EncodedText):
        _refuse_agents(plan)
        plan = with_text(plan, source)
    fingerprint |= {"workload": kind, "plan": plan.digest(), "options": _options_digest(config)}
    chosen = config.input.dataset_sampling_strategy or sampling
    return Workload(
        kind=kind,
        plan=plan,
        source=source,
        sampling=chosen,
        seed=seed,
        fingerprint=fingerprint,
        notes=tuple(notes),
        agents=None if data is None else data.agents,
        benchmark_id=_benchmark_id(config, seed),
    )


def _benchmark_id(config: Config, seed: int) -> str:
    """The user's; that of all parts of a run, from its start; or a new one."""
    if config.agentic.benchmark_id:
        return config.agentic.benchmark_id
    start = config.distributed.start_at
    return secrets.token_hex(6) if start is None else f"{salt_of(seed, parse_start(start)):x}"


def _refuse_agents(plan: PlanTables) -> None:
    """ConfigError if the plan is of recorded agent sessions: their blocks are made natively, from words that add up."""
    if plan.agents is not None:
        text = "the words of this tokenizer do not add up to exact token counts, which recorded agent sessions need"
        raise ConfigError((Problem(text, "--tokenizer", "use another one, for example `--tokenizer builtin`"),))


def _system_tokens(tokenizer: Tokenizer, options: SyntheticOptions, system_prompt: str | None) -> int:
    lead = "\n\n" if options.cache_bust == "system_prefix" else ""
    return int(tokenizer.count([lead + system_prompt])[0]) if system_prompt else 0


def _pools(
    config: Config,
    endpoint: Endpoint,
    options: SyntheticOptions,
    seed: int,
    content: Content | None,
    notes: list[Note],
) -> MediaPools | None:
    """The media of synthetic requests; ConfigError for a kind the endpoint does not send."""
    from aiperf.workload.media import wanted_kinds

    kinds = wanted_kinds(config.media)
    if not kinds:
        return None
    from aiperf.workload.media import make_pools

    unsent = [kind for kind in kinds if kind not in endpoint.features.media]
    if unsent:
        sent = ", ".join(endpoint.features.media) or "none"
        text = f"`--endpoint-type {config.endpoint.endpoint_type}` sends no {' and no '.join(unsent)}"
        raise ConfigError((Problem(text, None, f"media it sends: {sent}"),))
    requests = options.entries or options.turns
    pools = make_pools(config.media, requests, seed, content)
    if pools is not None and requests > min(pools.sizes.values()):
        made = ", ".join(f"{size:,} {name}" for name, size in pools.sizes.items())
        text = f"{made} are reused by {requests:,} requests: a server that caches them sees them again (`--media-pool`)"
        notes.append(Note("media_reused", text, dict(pools.sizes)))
    return pools


def _planned(
    sessions: Iterator[Session], endpoint: Endpoint, options: PlanOptions, tokenizer: Tokenizer, data: Data
) -> PlanTables:
    """DatasetError with the reasons, counted, if no session is left to send."""
    first = next(sessions, None)
    if first is None:
        reasons = [n.text for n in data.notes() if n.kind != "format_guessed"] or ["it has no sessions"]
        raise DatasetError(f"nothing of the {data.kind} data is left to send: {'; '.join(reasons)}")
    return build_plan(itertools.chain((first,), sessions), endpoint, options, tokenizer.count)


def _is_blocks_only(replay: Replay, config: Config) -> bool:
    """True if each request is one whole prompt of synthetic text, and nothing is to be put in front of it or drawn."""
    columns = replay.columns
    sizes = np.bincount(columns.session)
    is_whole = (sizes[columns.session] == 1) | columns.fresh
    is_osl_missing = bool((columns.osl == UNKNOWN).any()) and (
        config.prompt.osl_mean is not None or config.prompt.seq_dist is not None
    )
    return replay.is_synthetic and bool(is_whole.all()) and not is_osl_missing and not _has_decoration(config)


def _has_decoration(config: Config) -> bool:
    prompt = config.prompt
    return bool(
        prompt.system_prompt
        or prompt.system_prompt_file
        or prompt.shared_system_prompt_length
        or prompt.prefix_prompt_pool_size
        or prompt.user_context_prompt_length
        or prompt.cache_bust != "none"
    )


def _body_options(config: Config, endpoint: Endpoint, *, ignore_eos: bool | None) -> BodyOptions:
    options = config.endpoint
    eos = options.ignore_eos == "on" if ignore_eos is None or options.ignore_eos != "auto" else ignore_eos
    return BodyOptions(
        model="",
        streaming=options.streaming and endpoint.features.streaming,
        legacy_max_tokens=options.use_legacy_max_tokens,
        ignore_eos=eos and endpoint.features.tokens_out,
        force_min_tokens=bool(options.force_min_tokens) and endpoint.features.tokens_out,
        extra=options.extra_inputs,
    )


def _length_notes(config: Config, body: BodyOptions, plan: PlanTables) -> list[Note]:
    """What was added to the bodies beyond what the user's options name, and what was asked for and has no effect."""
    e = config.endpoint
    if body.ignore_eos and (plan.columns["osl"] != UNKNOWN).any() and e.ignore_eos == "auto":
        text = "`ignore_eos: true` is added to requests with an output length: this server accepts it (`--ignore-eos off` leaves it out)"
        return [Note("ignore_eos_added", text)]
    wanted = (("--ignore-eos on", e.ignore_eos == "on"), ("--force-min-tokens", bool(e.force_min_tokens)))
    return [
        Note("no_output_length", f"`{flag}` has no effect: no request asks for an output length (`--osl`)")
        for flag, is_given in wanted
        if is_given and not _has_lengths(plan, body)
    ]


def _has_lengths(plan: PlanTables, body: BodyOptions) -> bool:
    """True if some request asks for an output length."""
    return bool((plan.columns["osl"] != UNKNOWN).any()) or has_length(Turn(), body)


def _options_digest(config: Config) -> str:
    """Of what shapes the workload: sections `input`, `prompt`, `rankings`, `conversation`, `media`, and the body's fields."""
    sections = (config.input, config.prompt, config.rankings, config.conversation, config.media)
    text = "".join(s.model_dump_json(exclude={"input_file", "random_seed"}) for s in sections)
    text += repr(sorted(config.endpoint.extra_inputs.items())) + config.endpoint.endpoint_type
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _system_prompt(config: Config) -> str | None:
    prompt = config.prompt
    if prompt.system_prompt_file is None:
        return prompt.system_prompt or None
    try:
        text = prompt.system_prompt_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        problem = Problem(f"cannot read `{prompt.system_prompt_file}`: {reason}", "--system-prompt-file")
        raise ConfigError((problem,)) from error
    return text or None


def _template_tokens(
    config: Config, endpoint: Endpoint, tokenizer: Tokenizer, notes: list[Note]
) -> TemplateTokens | None:
    """What the chat template adds to messages of these roles; None unless `--apply-chat-template` is given and there is one."""
    if not config.prompt.apply_chat_template:
        return None
    text = "the"
    one = int(tokenizer.count([text])[0])

    @functools.cache
    def around(roles: tuple[str, ...]) -> int:
        whole = tokenizer.apply_chat_template([{"role": r, "content": text} for r in roles])
        return 0 if whole is None else whole - one * len(roles)

    reason = None
    if not endpoint.features.chat:
        reason = f"`{config.endpoint.endpoint_type}` has no messages"
    elif tokenizer.apply_chat_template([{"role": "user", "content": text}]) is None:
        reason = f"`{tokenizer.name}` has no chat template"
    if reason is not None:
        notes.append(Note("no_chat_template", f"{reason}: `--apply-chat-template` has no effect"))
        return None
    return around


def _decorated(
    sessions: Iterator[Session], config: Config, system_prompt: str | None, rng: np.random.Generator
) -> Iterator[Session]:
    """Sessions of a file with what the prompt options put in front: system prompt, user context, prefix, cache busting.

    Turns with a ready body stay as they are.
    """
    prompt = config.prompt

    def draw() -> int:
        return int(rng.integers(1 << 63, dtype=np.uint64))

    shared: tuple[Part, ...] = ()
    if system_prompt:
        shared = (system_prompt,)
    elif prompt.shared_system_prompt_length is not None:
        shared = (Synthetic(draw(), prompt.shared_system_prompt_length, unique=False),)
    pool: Sequence[Synthetic] = ()
    if prompt.prefix_prompt_pool_size is not None and prompt.prefix_prompt_length is not None:
        pool = [
            Synthetic(draw(), prompt.prefix_prompt_length, unique=False) for _ in range(prompt.prefix_prompt_pool_size)
        ]
    if not _has_decoration(config):
        yield from sessions
        return
    for session in sessions:
        bust: tuple[Part, ...] = (Synthetic(draw(), CACHE_BUST_TOKENS),) if prompt.cache_bust != "none" else ()
        system = _joined(shared, session.system)
        if prompt.cache_bust == "system_prefix":
            system = _joined(bust, system)
        elif prompt.cache_bust == "system_suffix":
            system = _joined(system, bust)
        front: tuple[Part, ...] = (pool[int(rng.integers(len(pool)))],) if pool else ()
        if prompt.cache_bust == "first_turn_prefix":
            front = (*bust, *front)
        back = bust if prompt.cache_bust == "first_turn_suffix" else ()
        turns = list(session.turns)
        if turns and turns[0].messages:
            messages = list(turns[0].messages)
            at = next((i for i, m in enumerate(messages) if m.role == "user" and m.parts), None)
            if at is not None:
                messages[at] = replace(messages[at], parts=_joined(_joined(front, messages[at].parts), back))
            if prompt.user_context_prompt_length is not None:
                context = Synthetic(draw(), prompt.user_context_prompt_length)
                messages.insert(0, Message(role="user", parts=(context,)))
            added = sum(x.tokens for x in (*front, *back) if isinstance(x, Synthetic)) + (
                prompt.user_context_prompt_length or 0
            )
            isl = None if turns[0].isl is None else turns[0].isl + added
            turns[0] = replace(turns[0], messages=tuple(messages), isl=isl)
        yield replace(session, turns=tuple(turns), system=system)


def _joined(before: tuple[Part, ...], behind: tuple[Part, ...]) -> tuple[Part, ...]:
    """Two texts with a paragraph between them; nothing between synthetic ones, which are joined by a space."""
    if not before or not behind:
        return before or behind
    if isinstance(before[-1], Synthetic) and isinstance(behind[0], Synthetic):
        return (*before, *behind)
    return (*before, "\n\n", *behind)
