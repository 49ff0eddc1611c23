"""The configuration of a run: one frozen model in sections, each option once.

`aiperf.config.resolve` builds it from defaults, a file, the environment and flags; `aiperf.config.check` finds what is wrong.
A `Config` made by hand (`Config(endpoint={"model_names": ("m",)})`) has no origins and the model's plain defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from aiperf.config.flag import FieldSpec, specs_of
from aiperf.config.sections import Section
from aiperf.config.sections.agentic import AgenticConfig
from aiperf.config.sections.aws import AwsConfig
from aiperf.config.sections.distributed import DistributedConfig
from aiperf.config.sections.endpoint import EndpointConfig, TelemetryConfig, TokenizerConfig
from aiperf.config.sections.input import ConversationConfig, InputConfig, PromptConfig
from aiperf.config.sections.live import LiveConfig
from aiperf.config.sections.load import LoadConfig, NamedPhase, WarmupConfig
from aiperf.config.sections.media import MediaConfig
from aiperf.config.sections.output import OutputConfig, ServiceConfig, SloConfig
from aiperf.config.sections.rankings import RankingsConfig
from aiperf.config.sections.sweep import SweepConfig

__all__ = ["SECTIONS", "Config", "Origin", "specs"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. `where`: `--request-rate`, `AIPERF_REQUEST_RATE`, `bench.yaml:12`, or why it is the default."""

    kind: Literal["default", "file", "environment", "flag"]
    where: str

    def __str__(self) -> str:
        return f"default: {self.where}" if self.kind == "default" and self.where else self.where or "default"


class Config(Section):
    """Everything about a run. Field paths are `section.field`, as in `origins`."""

    endpoint: EndpointConfig = Field(default_factory=EndpointConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    rankings: RankingsConfig = Field(default_factory=RankingsConfig)
    media: MediaConfig = Field(default_factory=MediaConfig)
    conversation: ConversationConfig = Field(default_factory=ConversationConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    load: LoadConfig = Field(default_factory=LoadConfig)
    warmup: WarmupConfig = Field(default_factory=WarmupConfig)
    agentic: AgenticConfig = Field(default_factory=AgenticConfig)
    output: OutputConfig = Field(default_factory=OutputConfig)
    slo: SloConfig = Field(default_factory=SloConfig)
    service: ServiceConfig = Field(default_factory=ServiceConfig)
    sweep: SweepConfig = Field(default_factory=SweepConfig)
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig)
    live: LiveConfig = Field(default_factory=LiveConfig)
    distributed: DistributedConfig = Field(default_factory=DistributedConfig)
    aws: AwsConfig = Field(default_factory=AwsConfig)

    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)
    _notes: tuple[str, ...] = PrivateAttr(default=())
    _command: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def assemble(
        cls,
        parts: Mapping[str, object],
        *,
        origins: Mapping[str, Origin] | None = None,
        notes: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> Config:
        """A configuration of its sections with what is known about them. ValidationError for sections that are not valid."""
        # Sections are valid as they are made; to validate them once more would build the schema of all of them.
        made: dict[str, Any] = dict(parts)
        is_made = all(isinstance(part, Section) for part in made.values())
        config = cls.model_construct(**made) if is_made else cls.model_validate(made)
        own = (dict(origins or {}), tuple(dict.fromkeys(notes)), tuple(command))
        config._origins, config._notes, config._command = own  # noqa: SLF001 - of this class
        return config

    def with_notes(self, notes: Sequence[str], command: Sequence[str] | None = None) -> Config:
        """The same with these notes in place of its own, and another command line if one is given."""
        parts = {s: getattr(self, s) for s in type(self).model_fields}
        return self.assemble(
            parts, origins=self._origins, notes=notes, command=self._command if command is None else command
        )

    @property
    def origins(self) -> Mapping[str, Origin]:
        """By field path; a path that is absent has the model's default."""
        return self._origins

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about their options: one line each, shown once."""
        return self._notes

    @property
    def command(self) -> tuple[str, ...]:
        """The command line as given, secrets masked; empty if there was none."""
        return self._command

    def is_set(self, path: str) -> bool:
        """True if the user gave the value, by whatever way."""
        origin = self._origins.get(path)
        return origin is not None and origin.kind != "default"

    @property
    def is_study(self) -> bool:
        """True if it asks for more than one run: a sweep, a search, repeats or an A/B study."""
        s = self.sweep
        return bool(s.has_points or s.ab) or s.search is not None or s.num_profile_runs > 1

    def value(self, path: str) -> object:
        """By field path, `load.concurrency`. AttributeError for a path that no option has."""
        section, _, name = path.partition(".")
        return getattr(getattr(self, section), name)

    def of_phase(self, phase: NamedPhase) -> Config:
        """The configuration as one of `load.phases` has it."""
        new = self.replace({p: specs()[p].default if v is None else v for p, v in phase.values.items()})
        given = {p: Origin("file", f"phase {phase.name}") for p, v in phase.values.items() if v is not None}
        kept = {p: o for p, o in self._origins.items() if p not in phase.values}
        parts = {s: getattr(new, s) for s in type(self).model_fields}
        return self.assemble(parts, origins=kept | given, notes=self._notes, command=self._command)

    def replace(self, values: Mapping[str, object]) -> Config:
        """A copy with other values by field path, validated; origins and notes are kept."""
        data: dict[str, dict[str, object]] = {}
        for path, value in values.items():
            section, _, name = path.partition(".")
            data.setdefault(section, {})[name] = value
        parts = {s: getattr(self, s) for s in type(self).model_fields}
        for section, changes in data.items():
            old = parts[section]
            parts[section] = type(old).model_validate(
                {**{n: getattr(old, n) for n in type(old).model_fields}, **changes}
            )
        return self.assemble(parts, origins=self._origins, notes=self._notes, command=self._command)


SECTIONS: dict[str, type[Section]] = {
    name: info.annotation for name, info in Config.model_fields.items() if isinstance(info.annotation, type)
}


@cache
def specs() -> dict[str, FieldSpec]:
    """All options by field path, in the order of the help."""
    return {spec.path: spec for section, model in SECTIONS.items() for spec in specs_of(section, model)}
