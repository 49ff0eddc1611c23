"""Sections `input`, `prompt` and `conversation`: what is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["ConversationConfig", "InputConfig", "PromptConfig"]

I = "Input"  # noqa: E741 - a heading
F = "Fixed Schedule"
Y = "Trace Synthesis"
P = "Prompt"
X = "Prefix Prompt"
V = "Conversation"


class InputConfig(Section):
    """Where the requests come from, and a trace's timing."""

    input_file: Annotated[
        Path | None,
        Flag("--input-file", help="Dataset or trace file, or a folder of them; .gz and .zst are read too", group=I),
    ] = None
    custom_dataset_type: Annotated[
        str | None,
        Flag(
            "--custom-dataset-type",
            help="Format of the input file; default: detected from its first record",
            group=I,
            plugins=("traces", "datasets"),
        ),
    ] = None
    public_dataset: Annotated[
        str | None,
        Flag("--public-dataset", help="Public dataset by AIPerf's name, or a Hugging Face dataset name", group=I),
    ] = None
    hf_subset: Annotated[
        str | None, Flag("--hf-subset", help="Configuration (subset) of the Hugging Face dataset", group=I)
    ] = None
    hf_split: Annotated[str, Flag("--hf-split", help="Dataset split", group=I)] = "train"
    dataset_filters: Annotated[
        tuple[str, ...],
        Flag(
            "--dataset-filter",
            help="Use only rows of the hub dataset whose column has this value: `category=math`, `meta.lang=en`; repeatable",
            greedy=True,
            group=I,
            metavar="COLUMN=VALUE",
        ),
    ] = ()
    hf_mooncake_dataset: Annotated[
        str | None,
        Flag(
            "--hf-mooncake-dataset",
            help="Hugging Face dataset of whole conversations, sent turn by turn as recorded",
            group=I,
        ),
    ] = None
    hf_mooncake_split: Annotated[
        str, Flag("--hf-mooncake-split", help="Split of the dataset of --hf-mooncake-dataset", group=I)
    ] = "test"
    mooncake_trace_to_hf_mapping: Annotated[
        tuple[str, ...],
        Flag(
            "--mooncake-trace-to-hf-mapping",
            help="Column of the dataset for a field of the conversation: `messages=data.turns`; repeatable",
            greedy=True,
            group=I,
            metavar="FIELD=COLUMN",
        ),
    ] = ()
    open_loop_replay: Annotated[
        bool,
        Flag(
            "--open-loop-replay",
            help="Send later turns of a baseten_trace at their recorded times; off: as long after the previous response as recorded",
            group=I,
        ),
    ] = True
    open_loop_strict: Annotated[
        bool,
        Flag(
            "--open-loop-strict",
            help="Send each row of a baseten_trace as its own session, at its recorded time",
            group=I,
        ),
    ] = False
    omit_kv_hints: Annotated[
        bool,
        Flag(
            "--omit-kv-hints",
            help="Leave the cache hints `hash_ids` and `block_size` of a baseten_trace out of the bodies",
            group=I,
        ),
    ] = False
    dataset_options: Annotated[
        dict[str, object],
        Flag(
            "--dataset-option",
            help="Option of the dataset format, for example `prompt_field=text`; repeatable",
            greedy=True,
            group=I,
            metavar="NAME=VALUE",
        ),
    ] = Field(default_factory=dict)
    dataset_sampling_strategy: Annotated[
        Literal["sequential", "random", "shuffle"] | None,
        Flag(
            "--dataset-sampling-strategy",
            help="Order of the entries; default: file order for files, shuffled for synthetic prompts",
            group=I,
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
            group=I,
        ),
    ] = None
    random_seed: Annotated[
        int | None,
        Field(ge=0),
        Flag(
            "--random-seed",
            help="Seed of all random choices; default: chosen at random and written to run.json",
            group=I,
        ),
    ] = None
    skip_invalid: Annotated[
        bool, Flag("--skip-invalid", help="Skip malformed lines (they are counted and listed)", group=I)
    ] = False
    max_context_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--context-limit",
            "--max-context-length",
            help="Skip prompts longer than this (the number skipped is reported)",
            zero_is_off=True,
            group=I,
        ),
    ] = None
    loop: Annotated[
        bool | None,
        Flag("--loop", "--allow-dataset-wrap", help="Start over at the end of the file, with fresh ids", group=I),
    ] = None
    isl_block_size: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--isl-block-size",
            "--prompt-input-tokens-block-size",
            "--synthetic-input-tokens-block-size",
            group=I,
            help="Tokens per hash block of a trace; default: the trace format's own (mooncake 512)",
        ),
    ] = None
    ignore_trace_delays: Annotated[
        bool, Flag("--ignore-trace-delays", help="Ignore the think times of the input file", group=I)
    ] = False

    fixed_schedule: Annotated[
        bool | None, Flag("--fixed-schedule", help="Send requests at the timestamps of the input file", group=F)
    ] = None
    fixed_schedule_auto_offset: Annotated[
        bool | None,
        Flag(
            "--fixed-schedule-auto-offset",
            help="Shift timestamps so that the first one is at time 0 (default without a start offset)",
            group=F,
        ),
    ] = None
    fixed_schedule_start_offset: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--fixed-schedule-start-offset",
            help="Skip requests with earlier timestamps; this timestamp becomes time 0",
            group=F,
            unit="ms",
        ),
    ] = None
    fixed_schedule_end_offset: Annotated[
        float | None,
        Field(ge=0),
        Flag("--fixed-schedule-end-offset", help="Skip requests with later timestamps", group=F, unit="ms"),
    ] = None
    replay_speedup: Annotated[
        float, Field(gt=0), Flag("--replay-speedup", help="Divide all timestamps by this factor", group=F)
    ] = 1.0
    idle_gap_cap_seconds: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--idle-gap-cap-seconds",
            "--max-idle-gap-cap-seconds",
            help="Maximum gap between arrivals; longer gaps are shortened to it",
            group=F,
            unit="s",
        ),
    ] = None

    trace_session_sample_ratio: Annotated[
        float | None,
        Field(gt=0, le=1),
        Flag("--trace-session-sample-ratio", help="Replay this share of the trace's sessions", group=Y),
    ] = None
    synthesis_speedup_ratio: Annotated[
        float | None,
        Field(gt=0),
        Flag("--synthesis-speedup-ratio", help="Divide the trace's timestamps by this factor", group=Y),
    ] = None
    synthesis_prefix_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--synthesis-prefix-len-multiplier", help="Multiply the length of shared prefixes by this factor", group=Y
        ),
    ] = None
    synthesis_prefix_root_multiplier: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--synthesis-prefix-root-multiplier",
            help="Multiply the number of distinct prefix roots by this factor",
            group=Y,
        ),
    ] = None
    synthesis_prompt_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--synthesis-prompt-len-multiplier",
            help="Multiply the length of the unshared part of prompts by this factor",
            group=Y,
        ),
    ] = None
    synthesis_output_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag("--synthesis-output-len-multiplier", help="Multiply the output lengths by this factor", group=Y),
    ] = None
    synthesis_max_isl: Annotated[
        int | None,
        Field(gt=0),
        Flag("--synthesis-max-isl", help="Skip requests with longer inputs", zero_is_off=True, group=Y),
    ] = None
    synthesis_max_osl: Annotated[
        int | None,
        Field(gt=0),
        Flag("--synthesis-max-osl", help="Maximum output length; longer outputs are capped", zero_is_off=True, group=Y),
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
            group=P,
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
            group=P,
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
            group=P,
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
            group=P,
        ),
    ] = 0.0
    isl_dist: Annotated[
        str | None,
        Flag(
            "--isl-dist",
            help='Distribution of the input length as JSON, e.g. `{"mean": 512, "median": 400}` or `{"peaks": [{"mean": 128, "weight": 60}, …]}`',
            group=P,
            metavar="JSON",
        ),
    ] = None
    osl_dist: Annotated[
        str | None,
        Flag(
            "--osl-dist",
            help="Distribution of the output length as JSON, as for --isl-dist",
            group=P,
            metavar="JSON",
        ),
    ] = None
    seq_dist: Annotated[
        str | None,
        Flag(
            "--seq-dist",
            "--sequence-distribution",
            help="Distribution of (input, output) lengths: `ISL|sd,OSL|sd:percent;…`, bracket form or JSON",
            group=P,
        ),
    ] = None
    random_range_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag("--random-range-ratio", help="Draw lengths uniformly within this share of the mean", group=P),
    ] = None
    random_corpus_style: Annotated[
        Literal["vllm", "sglang"],
        Flag("--random-corpus-style", help="Bounds for --random-range-ratio: m·(1 ± r), or [m·r, m]", group=P),
    ] = "vllm"
    prompt_corpus: Annotated[
        Literal["prose", "words"],
        Flag(
            "--prompt-corpus",
            help="Source of prompt text: running prose, or random words",
            group=P,
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
            group=P,
        ),
    ] = 1
    apply_chat_template: Annotated[
        bool, Flag("--apply-chat-template", help="Count the tokens of the chat template in the ISL", group=P)
    ] = False
    system_prompt: Annotated[str | None, Flag("--system-prompt", help="Text of the system message", group=X)] = None
    system_prompt_file: Annotated[
        Path | None, Flag("--system-prompt-file", help="File containing the system prompt", group=X)
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
            group=X,
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
            group=X,
        ),
    ] = None
    shared_system_prompt_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--shared-system-prompt-length",
            help="Tokens of a system prompt that all sessions share",
            zero_is_off=True,
            group=X,
        ),
    ] = None
    user_context_prompt_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--user-context-prompt-length",
            help="Tokens of a context prompt unique to each session",
            zero_is_off=True,
            group=X,
        ),
    ] = None
    cache_bust: Annotated[
        Literal["none", "system_prefix", "system_suffix", "first_turn_prefix", "first_turn_suffix"],
        Flag("--cache-bust", help="Where to put a unique id so that requests miss the prefix cache", group=X),
    ] = "none"


class ConversationConfig(Section):
    """Sessions of several turns."""

    num_sessions: Annotated[
        int | None,
        Field(gt=0),
        Flag("--num-sessions", "--conversation-num", "--num-conversations", help="Number of sessions to run", group=V),
    ] = None
    turn_mean: Annotated[
        float,
        Field(ge=1),
        Flag("--session-turns-mean", "--conversation-turn-mean", help="Mean number of turns per session", group=V),
    ] = 1.0
    turn_stddev: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-turns-stddev",
            "--conversation-turn-stddev",
            help="Standard deviation of the number of turns",
            group=V,
        ),
    ] = 0.0
    turn_delay_mean: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-turn-delay-mean",
            "--conversation-turn-delay-mean",
            help="Mean think time between turns",
            group=V,
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
            group=V,
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
            group=V,
        ),
    ] = 1.0
    turn_delay_cap_seconds: Annotated[
        float | None,
        Field(ge=0),
        Flag("--inter-turn-delay-cap-seconds", help="Maximum think time between turns", group=V, unit="s"),
    ] = None
