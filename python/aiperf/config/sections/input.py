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
        Path | None, Flag("--input-file", help="Dataset or trace; also a folder; .gz and .zst too", group=I)
    ] = None
    custom_dataset_type: Annotated[
        str | None,
        Flag("--custom-dataset-type", help="Format of the file: mooncake_trace, single_turn, multi_turn, …", group=I),
    ] = None
    public_dataset: Annotated[
        str | None, Flag("--public-dataset", help="A known dataset or a Hugging Face name", group=I)
    ] = None
    hf_subset: Annotated[str | None, Flag("--hf-subset", help="Configuration of the Hugging Face dataset", group=I)] = (
        None
    )
    hf_split: Annotated[str, Flag("--hf-split", help="Its split", group=I)] = "train"
    dataset_options: Annotated[
        dict[str, object],
        Flag(
            "--dataset-option",
            help="Option of the format, as `prompt_field=text`; repeatable",
            greedy=True,
            group=I,
            metavar="NAME=VALUE",
        ),
    ] = Field(default_factory=dict)
    dataset_sampling_strategy: Annotated[
        Literal["sequential", "random", "shuffle"] | None,
        Flag(
            "--dataset-sampling-strategy",
            help="Order of the entries; default: a file's order, synthetic shuffled",
            group=I,
        ),
    ] = None
    num_dataset_entries: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--num-dataset-entries",
            "--num-prompts",
            help="Different prompts; default: each request has its own",
            zero_is_off=True,
            group=I,
        ),
    ] = None
    random_seed: Annotated[
        int | None,
        Field(ge=0),
        Flag("--random-seed", help="Seed of everything drawn; default: drawn and written to run.json", group=I),
    ] = None
    skip_invalid: Annotated[
        bool, Flag("--skip-invalid", help="Leave out broken lines, count and list them", group=I)
    ] = False
    max_context_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--context-limit",
            "--max-context-length",
            help="Leave out what is longer, counted",
            zero_is_off=True,
            group=I,
        ),
    ] = None
    loop: Annotated[
        bool | None,
        Flag("--loop", "--allow-dataset-wrap", help="Start over when the file is used up (fresh ids)", group=I),
    ] = None
    isl_block_size: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--isl-block-size", "--prompt-input-tokens-block-size", "--synthetic-input-tokens-block-size", group=I,
            help="Tokens of a trace's hash block; default: the format's own (mooncake 512)",
        ),
    ] = None  # fmt: skip
    ignore_trace_delays: Annotated[bool, Flag("--ignore-trace-delays", help="No think time from the file", group=I)] = (
        False
    )

    fixed_schedule: Annotated[bool | None, Flag("--fixed-schedule", help="Send at the file's timestamps", group=F)] = (
        None
    )
    fixed_schedule_auto_offset: Annotated[
        bool | None,
        Flag(
            "--fixed-schedule-auto-offset",
            help="The first timestamp is time 0 (default without a start offset)",
            group=F,
        ),
    ] = None
    fixed_schedule_start_offset: Annotated[
        float | None,
        Field(ge=0),
        Flag("--fixed-schedule-start-offset", help="Leave out what is earlier; time 0", group=F, unit="ms"),
    ] = None
    fixed_schedule_end_offset: Annotated[
        float | None,
        Field(ge=0),
        Flag("--fixed-schedule-end-offset", help="Leave out what is later", group=F, unit="ms"),
    ] = None
    replay_speedup: Annotated[
        float, Field(gt=0), Flag("--replay-speedup", help="Timestamps are divided by it", group=F)
    ] = 1.0
    idle_gap_cap_seconds: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--idle-gap-cap-seconds", "--trace-idle-gap-cap-seconds", "--system-idle-gap-cap-seconds", "--max-idle-gap-cap-seconds",
            help="Longer gaps between arrivals are shortened to it", group=F, unit="s",
        ),
    ] = None  # fmt: skip

    trace_session_sample_ratio: Annotated[
        float | None,
        Field(gt=0, le=1),
        Flag("--trace-session-sample-ratio", help="Replay this share of the trace's sessions", group=Y),
    ] = None
    synthesis_speedup_ratio: Annotated[
        float | None, Field(gt=0), Flag("--synthesis-speedup-ratio", help="Timestamps are divided by it", group=Y)
    ] = None
    synthesis_prefix_len_multiplier: Annotated[
        float | None, Field(gt=0), Flag("--synthesis-prefix-len-multiplier", help="Length of shared prefixes", group=Y)
    ] = None
    synthesis_prefix_root_multiplier: Annotated[
        int | None,
        Field(gt=0),
        Flag("--synthesis-prefix-root-multiplier", help="Number of different prefix roots", group=Y),
    ] = None
    synthesis_prompt_len_multiplier: Annotated[
        float | None,
        Field(gt=0),
        Flag("--synthesis-prompt-len-multiplier", help="Length of the unshared part", group=Y),
    ] = None
    synthesis_output_len_multiplier: Annotated[
        float | None, Field(gt=0), Flag("--synthesis-output-len-multiplier", help="Length of outputs", group=Y)
    ] = None
    synthesis_max_isl: Annotated[
        int | None, Field(gt=0), Flag("--synthesis-max-isl", help="Leave out longer inputs", zero_is_off=True, group=Y)
    ] = None
    synthesis_max_osl: Annotated[
        int | None, Field(gt=0), Flag("--synthesis-max-osl", help="Cap on outputs", zero_is_off=True, group=Y)
    ] = None


class PromptConfig(Section):
    """Synthetic prompts. Lengths in tokens."""

    isl_mean: Annotated[
        float, Field(gt=0),
        Flag("--isl", "--prompt-input-tokens-mean", "--synthetic-input-tokens-mean", help="Mean input length, tokens", group=P),
    ] = 550.0  # fmt: skip
    isl_stddev: Annotated[
        float, Field(ge=0),
        Flag("--isl-stddev", "--prompt-input-tokens-stddev", "--synthetic-input-tokens-stddev", help="Its deviation", group=P),
    ] = 0.0  # fmt: skip
    osl_mean: Annotated[
        float | None, Field(gt=0),
        Flag("--osl", "--prompt-output-tokens-mean", "--output-tokens-mean", help="Mean output length, tokens; default: not sent", group=P),
    ] = None  # fmt: skip
    osl_stddev: Annotated[
        float, Field(ge=0),
        Flag("--osl-stddev", "--prompt-output-tokens-stddev", "--output-tokens-stddev", help="Its deviation", group=P),
    ] = 0.0  # fmt: skip
    seq_dist: Annotated[
        str | None,
        Flag(
            "--seq-dist",
            "--sequence-distribution",
            help="Pairs of lengths: `ISL|sd,OSL|sd:percent;…`, brackets or JSON",
            group=P,
        ),
    ] = None
    random_range_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag("--random-range-ratio", help="Lengths uniform around the mean by this share", group=P),
    ] = None
    random_corpus_style: Annotated[
        Literal["vllm", "sglang"],
        Flag("--random-corpus-style", help="Bounds of that range: m·(1 ± r), or [m·r, m]", group=P),
    ] = "vllm"
    prompt_corpus: Annotated[
        Literal["prose", "words"],
        Flag(
            "--prompt-corpus", help="Text from prose, or words drawn from a list", group=P,
            synonyms={"sonnet": "prose", "shakespeare": "prose", "random": "words"},
        ),
    ] = "prose"  # fmt: skip
    batch_size_text: Annotated[
        int, Field(gt=0),
        Flag("--batch-size-text", "--prompt-batch-size", "--batch-size", "-b", help="Texts per request (embeddings)", group=P),
    ] = 1  # fmt: skip
    apply_chat_template: Annotated[
        bool, Flag("--apply-chat-template", help="ISL includes the tokens of the chat template", group=P)
    ] = False
    system_prompt: Annotated[str | None, Flag("--system-prompt", help="Text of a system message", group=X)] = None
    system_prompt_file: Annotated[Path | None, Flag("--system-prompt-file", help="File with it", group=X)] = None
    prefix_prompt_pool_size: Annotated[
        int | None,
        Field(ge=0),
        Flag("--num-prefix-prompts", "--prompt-prefix-pool-size", "--prefix-prompt-pool-size", help="Prefixes to choose from", group=X),
    ] = None  # fmt: skip
    prefix_prompt_length: Annotated[
        int | None,
        Field(ge=0),
        Flag("--prefix-prompt-length", "--prompt-prefix-length", help="Tokens of each, added to the ISL", group=X),
    ] = None
    shared_system_prompt_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--shared-system-prompt-length",
            help="Tokens of a system prompt all sessions share",
            zero_is_off=True,
            group=X,
        ),
    ] = None
    user_context_prompt_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--user-context-prompt-length",
            help="Tokens of a context each session has of its own",
            zero_is_off=True,
            group=X,
        ),
    ] = None
    cache_bust: Annotated[
        Literal["none", "system_prefix", "system_suffix", "first_turn_prefix", "first_turn_suffix"],
        Flag("--cache-bust", help="Where a unique id makes the request miss the prefix cache", group=X),
    ] = "none"


class ConversationConfig(Section):
    """Sessions of several turns."""

    num_sessions: Annotated[
        int | None,
        Field(gt=0),
        Flag("--num-sessions", "--conversation-num", "--num-conversations", help="Sessions to run", group=V),
    ] = None
    turn_mean: Annotated[
        float,
        Field(ge=1),
        Flag("--session-turns-mean", "--conversation-turn-mean", help="Mean turns of a session", group=V),
    ] = 1.0
    turn_stddev: Annotated[
        float, Field(ge=0), Flag("--session-turns-stddev", "--conversation-turn-stddev", help="Its deviation", group=V)
    ] = 0.0
    turn_delay_mean: Annotated[
        float, Field(ge=0),
        Flag("--session-turn-delay-mean", "--conversation-turn-delay-mean", help="Mean think time between turns", group=V, unit="ms"),
    ] = 0.0  # fmt: skip
    turn_delay_stddev: Annotated[
        float, Field(ge=0),
        Flag("--session-turn-delay-stddev", "--conversation-turn-delay-stddev", help="Its deviation", group=V, unit="ms"),
    ] = 0.0  # fmt: skip
    turn_delay_ratio: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--session-delay-ratio", "--conversation-turn-delay-ratio", help="Think times are multiplied by it", group=V
        ),
    ] = 1.0
    turn_delay_cap_seconds: Annotated[
        float | None, Field(ge=0), Flag("--inter-turn-delay-cap-seconds", help="Longest think time", group=V, unit="s")
    ] = None
