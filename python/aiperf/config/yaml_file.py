"""Options from a YAML file: the same names as the flags, flat or by section, or AIPerf's own; each value knows its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.flag import FieldSpec, Given, normalise_key
from aiperf.config.model import SECTIONS, specs
from aiperf.config.parse import parse_value
from aiperf.errors import Problem, did_you_mean

__all__ = ["FileValues", "read_config_file"]


@dataclass(slots=True)
class FileValues:
    """`ready`: by option path, values that no flag has."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ready: dict[str, object] = field(default_factory=dict)


def read_config_file(path: Path) -> FileValues:
    """Never raises for what is in the file; a file that cannot be read is a problem too."""
    import yaml

    result = FileValues()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        result.problems.append(Problem(f"cannot read the file: {reason}", str(path)))
        return result
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return result
        if not isinstance(root, yaml.MappingNode):
            result.problems.append(Problem("the file must be a mapping of options, as `concurrency: 10`", f"{path}:1"))
            return result
        from aiperf.config.v2.shape import is_v2

        if is_v2(root):
            from aiperf.config.v2 import read_v2

            found = read_v2(root, loader, path)
            extra = {"load.phases": found.phases, "sweep.scenarios": found.scenarios}
            return FileValues(found.given, found.problems, found.notes, {k: v for k, v in extra.items() if v})
        for key, node, section in _entries(root):
            _take(key, node, section, path, loader, result)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        result.problems.append(Problem(f"not valid YAML: {getattr(error, 'problem', None) or error}", where))
    finally:
        loader.dispose()
    return result


def _entries(root: Any) -> Iterator[tuple[Any, Any, str]]:
    """(key node, value node, section or "") of each option in the file."""
    import yaml

    for key, node in root.value:
        name = normalise_key(str(key.value))
        if name in SECTIONS and isinstance(node, yaml.MappingNode):
            for inner_key, inner in node.value:
                yield inner_key, inner, name
        else:
            yield key, node, ""


def _names(section: str) -> dict[str, tuple[FieldSpec, bool]]:
    """Keys → option and whether the key means its opposite. Bare field names only within their section."""
    table: dict[str, tuple[FieldSpec, bool]] = {}
    for spec in specs().values():
        if section and spec.section != section:
            continue
        table |= {normalise_key(n): (spec, True) for n in spec.negatives if normalise_key(n) not in table}
        table |= {normalise_key(n): (spec, False) for n in spec.flag.names}
        table[spec.path] = (spec, False)
        if section:
            table[spec.name] = (spec, False)
    return table


def _take(key: Any, node: Any, section: str, path: Path, loader: Any, result: FileValues) -> None:
    import yaml

    where = f"{path}:{key.start_mark.line + 1}"
    name = normalise_key(str(key.value))
    table = _names(section)
    option = table.get(name)
    if option is None:
        foreign = next((f for f in FOREIGN if name in {normalise_key(n) for n in f.names}), None)
        if foreign is not None and foreign.state == "note":
            result.notes.append(f"`{key.value}` ({where}) has no meaning here: {foreign.reason}")
        elif foreign is not None:
            result.problems.append(Problem(f"`{key.value}` of AIPerf is not supported", where, foreign.reason))
        else:
            place = f" in the section `{section}`" if section else ""
            text = f"no option is named `{key.value}`{place}"
            result.problems.append(Problem(text, where, did_you_mean(name, table, "")))
        return
    spec, opposite = option
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return
    texts = _texts(node, spec, loader)
    if texts is None:
        result.problems.append(Problem(f"`{key.value}` takes a single value here, not a {node.id}", where))
        return
    if opposite:
        texts = tuple({"true": "false", "false": "true"}.get(t.lower(), t) for t in texts)
    result.given.append(Given(spec, texts, where))


def _texts(node: Any, spec: FieldSpec, loader: Any) -> tuple[str, ...] | None:
    """The value as it would stand after the flag; None if this option cannot have it."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return (str(node.value),)
    value = loader.construct_object(node, deep=True)
    if isinstance(value, Mapping):
        if spec.kind == "mapping":
            return (json.dumps(_as_after_the_flag(node, dict(value)), default=str),)
        if spec.kind == "pairs":
            return (json.dumps(value, default=str),)
        if spec.kind == "tiers":
            return (" ".join(f"{k}:{v}" for k, v in value.items()),)
        return None
    if spec.is_list:
        if spec.kind == "mapping":
            return tuple(json.dumps(v) if isinstance(v, Mapping) else str(v) for v in value)
        return tuple(str(v) for v in value)
    if spec.is_sweepable:
        return (",".join(str(v) for v in value),)
    return (json.dumps(value),) if spec.kind == "str" else None


def _as_after_the_flag(node: Any, value: dict[Any, object]) -> dict[Any, object]:
    """Plain words, which YAML takes for text, mean what they mean after the flag: `none` is null. Quoted ones stay text."""
    import yaml

    for key, inner in node.value:
        is_word = isinstance(inner, yaml.ScalarNode) and inner.style is None and inner.tag.endswith(":str")
        if is_word and key.value in value:
            value[key.value] = parse_value(inner.value)
    return value
