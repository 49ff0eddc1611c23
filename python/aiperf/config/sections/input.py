"""Sections `input`, `prompt` and `conversation`: what is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["ConversationConfig", "InputConfig", "PromptConfig"]

_INPUT = "Input"
_SCHEDULE = "Fixed Schedule"
_SYNTHESIS = "Trace Synthesis"
_PROMPT = "Prompt"
_PREFIX = "Prefix Prompt"
_CONVERSATION = "Conversation"


class InputConfig(Section):
    """Where the requests come from, and a trace's timing."""

    input_file: Annotated[
        Path | None,
        Flag(
            "--input-file", help="Dataset or trace file, or a folder of them; .gz and .zst are read too", group=_INPUT
        ),
    ] = None
    custom_dataset_type: Annotated[
        str | None,
        Flag(
            "--custom-dataset-type",
            help="Format of the input file; default: detected from its first record",
            group=_INPUT,
            plugins=("traces", "datasets"),
        ),
    ] = None
    public_dataset: Annotated[
        str | None,
        Flag("--public-dataset", help="Public dataset by AIPerf's name, or a Hugging Face dataset name", group=_INPUT),
    ] = None
    hf_subset: Annotated[
        str | None, Flag("--hf-subset", help="Configuration (subset) of the Hugging Face dataset", group=_INPUT)
    ] = None
    hf_split: Annotated[str, Flag("--hf-split", help="Dataset split", group=_INPUT)] = "train"
    dataset_filters: Annotated[
        tuple[str, ...],
        Flag(
            "--dataset-filter",
            help="Use only rows of the hub dataset whose column has this value: `category=math`, `meta.lang=en`; repeatable",
            greedy=True,
            group=_INPUT,
            metavar="COLUMN=VALUE",
        ),
    ] = ()
    hf_mooncake_dataset: Annotated[
        str | None,
        Flag(
            "--hf-mooncake-dataset",
            help="Hugging Face dataset of whole conversations, sent turn by turn as recorded",
            group=_INPUT,
        ),
    ] = None
    hf_mooncake_split: Annotated[
        str, Flag("--hf-mooncake-split", help="Split of the dataset of --hf-mooncake-dataset", group=_INPUT)
    ] = "test"
    mooncake_trace_to_hf_mapping: Annotated[
        tuple[str, ...],
        Flag(
            "--mooncake-trace-to-hf-mapping",
            help="Column of the dataset for a field of the conversation: `messages=data.turns`; repeatable",
            greedy=True,
            group=_INPUT,
            metavar="FIELD=COLUMN",
        ),
    ] = ()
    open_loop_replay: Annotated[
        bool,
        Flag(
            "--open-loop-replay",
            help="Send later turns of a baseten_trace at their recorded times; off: as long after the previous response as recorded",
            group=_INPUT,
        ),
    ] = True
    open_loop_strict: Annotated[
        bool,
        Flag(
            "--open-loop-strict",
            help="Send each row of a baseten_trace as its own session, at its recorded time",
            group=_INPUT,
        ),
    ] = False
    omit_kv_hints: Annotated[
        bool,
        Flag(
            "--omit-kv-hints",
            help="Leave the cache hints `hash_ids` and `block_size` of a baseten_trace out of the bodies",
            group=_INPUT,
        ),
    ] = False
    dataset_options: Annotated[
        dict[str, object],
        Flag(
            "--dataset-option",
            help="Option of the dataset format, for example `prompt_field=text`; repeatable",
            greedy=True,
            group=_INPUT,
            metavar="NAME=VALUE",
        ),
    ] = Field(default_factory=dict)
    dataset_sampling_strategy: Annotated[
        Literal["sequential", "random", "shuffle"] | None,
        Flag(
            "--dataset-sampling-strategy",
            help="Order of the entries; default: file order for files, shuffled for synthetic prompts",
            group=_INPUT,
        ),
    ] = None
    num_dataset_entries: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--num-dataset-entries",
            "--num-prompts",
            help="Number of distinct prompts; default: every request has its own",
            zero_is_off=True,
            group=_INPUT,
        ),
    ] = None
    random_seed: Annotated[
        int | None,
        Field(ge=0),
        Flag(
            "--random-seed",
            help="Seed of all random choices; default: chosen at random and written to run.json",
            group=_INPUT,
        ),
    ] = None
    skip_invalid: Annotated[
        bool, Flag("--skip-invalid", help="Skip malformed lines (they are counted and listed)", group=_INPUT)
    ] = False
    max_context_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--context-limit",
            "--max-context-length",
            help="Skip prompts longer than this (the number skipped is reported)",
            zero_is_off=True,
            group=_INPUT,
        ),
    ] = None
    loop: Annotated[
        bool | None,
        Flag("--loop", "--allow-dataset-wrap", help="Start over at the end of the file, with fresh ids", group=_INPUT),
    ] = None
    isl_block_size: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--isl-block-size",
            "--prompt-input-tokens-block-size",
            "--synthetic-input-tokens-block-size",
            group=_INPUT,
            help="Tokens per hash block of a trace; default: the trace format's own (mooncake 512)",
        ),
    ] = None
    ignore_trace_delays: Annotated[
        bool, Flag("--ignore-trace-delays", help="Ignore the think times of the input file", group=_INPUT)
    ] = False

    fixed_schedule: Annotated[
        bool | None, Flag("--fixed-schedule", help="Send requests at the timestamps of the input file", group=_SCHEDULE)
    ] = None
    fixed_schedule_auto_offset: Annotated[
        bool | None,
        Flag(
            "--fixed-schedule-auto-offset",
            help="Shift timestamps so that the first one is at time 0 (default without a start offset)",
            group=_SCHEDULE,
        ),
    ] = None
    fixed_schedule_start_offset: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--fixed-schedule-start-offset",
            help="Skip requests with earlier timestamps; this timestamp becomes time 0",
            group=_SCHEDULE,
            unit="ms",
        ),
    ] = None
    fixed_schedule_end_offset: Annotated[
        float | None,
        Field(ge=0),
        Flag("--fixed-schedule-end-offset", help="Skip requests with later timestamps", group=_SCHEDULE, unit="ms"),
    ] = None
    replay_speedup: Annotated[
        float, Field(gt=0), Flag("--replay-speedup", help="Divide all timestamps by this factor", group=_SCHEDULE)
    ] = 1.0
    idle_gap_cap_seconds: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--idle-gap-cap-seconds",
            "--max-idle-gap-cap-seconds",
            help="Maximum gap between arrivals; longer gaps are shortened to it",
            group=_SCHEDULE,
            unit="s",
        ),
    ] = None

    trace_session_sample_ratio: Annotated[
        float | None,
        Field(gt=0, le=1),
        Flag("--trace-session-sample-ratio", help="Replay this share of the trace's sessions", group=_SYNTHESIS),
    ] = None
    synthesis_speedup_ratio: Annotated[
        float | None,
        Field(gt=0),
        Flag("--synthesis-speedup-ratio", help="Divide the trace's timestamps by this factor", group=_SYNTHESIS),
    ] = None
    synthesis_prefix_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--synthesis-prefix-len-multiplier",
            help="Multiply the length of shared prefixes by this factor",
            group=_SYNTHESIS,
        ),
    ] = None
    synthesis_prefix_root_multiplier: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--synthesis-prefix-root-multiplier",
            help="Multiply the number of distinct prefix roots by this factor",
            group=_SYNTHESIS,
        ),
    ] = None
    synthesis_prompt_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--synthesis-prompt-len-multiplier",
            help="Multiply the length of the unshared part of prompts by this factor",
            group=_SYNTHESIS,
        ),
    ] = None
    synthesis_output_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag("--synthesis-output-len-multiplier", help="Multiply the output lengths by this factor", group=_SYNTHESIS),
    ] = None
    synthesis_max_isl: Annotated[
        int | None,
        Field(gt=0),
        Flag("--synthesis-max-isl", help="Skip requests with longer inputs", zero_is_off=True, group=_SYNTHESIS),
    ] = None
    synthesis_max_osl: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--synthesis-max-osl",
            help="Maximum output length; longer outputs are capped",
            zero_is_off=True,
            group=_SYNTHESIS,
        ),
    ] = None


class PromptConfig(Section):
    """Synthetic prompts. Lengths in tokens."""

    isl_mean: Annotated[
        float,
        Field(gt=0),
        Flag(
            "--isl",
            "--prompt-input-tokens-mean",
            "--synthetic-input-tokens-mean",
            help="Mean input length in tokens",
            group=_PROMPT,
        ),
    ] = 550.0
    isl_stddev: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--isl-stddev",
            "--prompt-input-tokens-stddev",
            "--synthetic-input-tokens-stddev",
            help="Standard deviation of the input length",
            group=_PROMPT,
        ),
    ] = 0.0
    osl_mean: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--osl",
            "--prompt-output-tokens-mean",
            "--output-tokens-mean",
            help="Mean output length in tokens; default: no length is requested",
            group=_PROMPT,
        ),
    ] = None
    osl_stddev: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--osl-stddev",
            "--prompt-output-tokens-stddev",
            "--output-tokens-stddev",
            help="Standard deviation of the output length",
            group=_PROMPT,
        ),
    ] = 0.0
    isl_dist: Annotated[
        str | None,
        Flag(
            "--isl-dist",
            help='Distribution of the input length as JSON, e.g. `{"mean": 512, "median": 400}` or `{"peaks": [{"mean": 128, "weight": 60}, …]}`',
            group=_PROMPT,
            metavar="JSON",
        ),
    ] = None
    osl_dist: Annotated[
        str | None,
        Flag(
            "--osl-dist",
            help="Distribution of the output length as JSON, as for --isl-dist",
            group=_PROMPT,
            metavar="JSON",
        ),
    ] = None
    seq_dist: Annotated[
        str | None,
        Flag(
            "--seq-dist",
            "--sequence-distribution",
            help="Distribution of (input, output) lengths: `ISL|sd,OSL|sd:percent;…`, bracket form or JSON",
            group=_PROMPT,
        ),
    ] = None
    random_range_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag("--random-range-ratio", help="Draw lengths uniformly within this share of the mean", group=_PROMPT),
    ] = None
    random_corpus_style: Annotated[
        Literal["vllm", "sglang"],
        Flag("--random-corpus-style", help="Bounds for --random-range-ratio: m·(1 ± r), or [m·r, m]", group=_PROMPT),
    ] = "vllm"
    prompt_corpus: Annotated[
        Literal["prose", "words"],
        Flag(
            "--prompt-corpus",
            help="Source of prompt text: running prose, or random words",
            group=_PROMPT,
            synonyms={"sonnet": "prose", "shakespeare": "prose", "random": "words"},
        ),
    ] = "prose"
    batch_size_text: Annotated[
        int,
        Field(gt=0),
        Flag(
            "--batch-size-text",
            "--prompt-batch-size",
            "--batch-size",
            "-b",
            help="Texts per request (embeddings)",
            group=_PROMPT,
        ),
    ] = 1
    apply_chat_template: Annotated[
        bool, Flag("--apply-chat-template", help="Count the tokens of the chat template in the ISL", group=_PROMPT)
    ] = False
    system_prompt: Annotated[str | None, Flag("--system-prompt", help="Text of the system message", group=_PREFIX)] = (
        None
    )
    system_prompt_file: Annotated[
        Path | None, Flag("--system-prompt-file", help="File containing the system prompt", group=_PREFIX)
    ] = None
    prefix_prompt_pool_size: Annotated[
        int | None,
        Field(ge=0),
        Flag(
            "--num-prefix-prompts",
            "--prompt-prefix-pool-size",
            "--prefix-prompt-pool-size",
            help="Number of shared prefixes; each session gets one of them",
            zero_is_off=True,
            group=_PREFIX,
        ),
    ] = None
    prefix_prompt_length: Annotated[
        int | None,
        Field(ge=0),
        Flag(
            "--prefix-prompt-length",
            "--prompt-prefix-length",
            help="Tokens of each shared prefix, in addition to the ISL",
            zero_is_off=True,
            group=_PREFIX,
        ),
    ] = None
    shared_system_prompt_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--shared-system-prompt-length",
            help="Tokens of a system prompt that all sessions share",
            zero_is_off=True,
            group=_PREFIX,
        ),
    ] = None
    user_context_prompt_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--user-context-prompt-length",
            help="Tokens of a context prompt unique to each session",
            zero_is_off=True,
            group=_PREFIX,
        ),
    ] = None
    cache_bust: Annotated[
        Literal["none", "system_prefix", "system_suffix", "first_turn_prefix", "first_turn_suffix"],
        Flag("--cache-bust", help="Where to put a unique id so that requests miss the prefix cache", group=_PREFIX),
    ] = "none"


class ConversationConfig(Section):
    """Sessions of several turns."""

    num_sessions: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--num-sessions",
            "--conversation-num",
            "--num-conversations",
            help="Number of sessions to run",
            group=_CONVERSATION,
        ),
    ] = None
    turn_mean: Annotated[
        float,
        Field(ge=1),
        Flag(
            "--session-turns-mean",
            "--conversation-turn-mean",
            help="Mean number of turns per session",
            group=_CONVERSATION,
        ),
    ] = 1.0
    turn_stddev: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-turns-stddev",
            "--conversation-turn-stddev",
            help="Standard deviation of the number of turns",
            group=_CONVERSATION,
        ),
    ] = 0.0
    turn_delay_mean: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-turn-delay-mean",
            "--conversation-turn-delay-mean",
            help="Mean think time between turns",
            group=_CONVERSATION,
            unit="ms",
        ),
    ] = 0.0
    turn_delay_stddev: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-turn-delay-stddev",
            "--conversation-turn-delay-stddev",
            help="Standard deviation of the think time",
            group=_CONVERSATION,
            unit="ms",
        ),
    ] = 0.0
    turn_delay_ratio: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-delay-ratio",
            "--conversation-turn-delay-ratio",
            help="Multiply think times by this factor",
            group=_CONVERSATION,
        ),
    ] = 1.0
    turn_delay_cap_seconds: Annotated[
        float | None,
        Field(ge=0),
        Flag("--inter-turn-delay-cap-seconds", help="Maximum think time between turns", group=_CONVERSATION, unit="s"),
    ] = None
