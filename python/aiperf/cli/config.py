"""`aiperf config`: a first configuration file, and what one means: check it, list its runs, or its JSON Schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from aiperf.cli.command import Commands
from aiperf.config.flag import Flag
from aiperf.errors import ConfigError, nearest

__all__ = ["app"]

app = Commands(name="config", help="Write, check and expand configuration files for `aiperf profile --config`.")

_File = Annotated[Path, Flag(help="YAML configuration file")]


def _templates() -> dict[str, Path]:
    folder = Path(__file__).parent.parent / "config" / "templates"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _about(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


@app.command
def init(
    *,
    template: Annotated[str, Flag("--template", "-t", help="Template to start from")] = "minimal",
    list_templates: Annotated[bool, Flag("--list", "-l", help="List the templates")] = False,
    search: Annotated[str | None, Flag("--search", "-s", help="List the templates with this word")] = None,
    model: Annotated[str | None, Flag("--model", "-m", help="Model name to write into it")] = None,
    url: Annotated[str | None, Flag("--url", "-u", help="Server URL to write into it")] = None,
    output: Annotated[Path | None, Flag("--output", "-o", help="File to write; default: stdout")] = None,
) -> None:
    """Print a configuration to start from, or write it to a file."""
    known = _templates()
    if list_templates or search is not None:
        rows = {name: _about(path) for name, path in known.items()}
        wanted = {n: t for n, t in rows.items() if search is None or search.lower() in f"{n} {t}".lower()}
        width = max((len(n) for n in wanted), default=0)
        print("\n".join(f"{n.ljust(width)}  {t}" for n, t in wanted.items()))
        return
    name = template.replace("-", "_")
    if name not in known:
        near = nearest(name, tuple(known))
        hint = f"did you mean `{near}`?" if near else f"templates: {', '.join(known)}"
        raise ConfigError(f"there is no template `{template}`", hint)
    text = known[name].read_text(encoding="utf-8")
    for old, new in (("my-model", model), ("http://localhost:8000", url)):
        text = text.replace(old, new) if new else text
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise ConfigError(f"`{output}` is there already", "give another file, or remove it first")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to `{output}`: {error.strerror or error}") from error
    print(f"wrote {output}: `aiperf profile --config {output}`", file=sys.stderr)


@app.command
def validate(file: _File, /) -> None:
    """Check a configuration as `aiperf profile --config` does; exit code 2 if something is wrong."""
    from aiperf.cli.message import print_notes
    from aiperf.config.resolve import configure
    from aiperf.metrics import load_all

    config = configure(config_file=file, env={}, all_tags=lambda: load_all().keys())
    print_notes(config.notes)
    print(f"{file}: valid")


@app.command
def expand(
    file: _File,
    /,
    *,
    full: Annotated[bool, Flag("--full", "-F", help="Print each run's whole configuration")] = False,
    index: Annotated[int | None, Flag("--index", "-i", help="Only the run with this number, from 0; in full")] = None,
    output_format: Annotated[Literal["text", "yaml", "json"], Flag("--format", "-f", help="Output format")] = "text",
) -> None:
    """List the runs a configuration asks for: the points of its sweep."""
    runs = _runs(file)
    if index is not None:
        if not 0 <= index < len(runs):
            raise ConfigError(f"there is no run {index}", f"there are {len(runs)}, from 0")
        runs = runs[index : index + 1]
    whole = full or index is not None
    if output_format == "text":
        for number, (name, tree) in enumerate(runs, index or 0):
            print(f"{number}  {name}" + (f"\n{_yaml(tree)}" if whole else ""))
        return
    rows: list[Any] = [{"name": name, **({"config": tree} if whole else {})} for name, tree in runs]
    if output_format == "yaml":
        print(_yaml(rows), end="")
    else:
        from aiperf.json_text import json_text

        print(json_text(rows, indent=2))


@app.command
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from aiperf.config.v2.schema import build_schema
    from aiperf.json_text import json_text

    print(json_text(build_schema(), indent=2))


def _runs(file: Path) -> list[tuple[str, dict[str, Any]]]:
    from aiperf.config.resolve import configure
    from aiperf.config.v2 import expand as expand_tree
    from aiperf.config.v2 import load_tree
    from aiperf.metrics import load_all

    config = configure(config_file=file, env={}, all_tags=lambda: load_all().keys())
    tree = load_tree(file)
    if tree is not None:
        return expand_tree(tree, file)[0]
    from aiperf.config.as_data import config_dict_for_export
    from aiperf.sweeps.space import build_points

    own = config_dict_for_export(config)
    points = build_points(config.sweep.axes, config.sweep.sweep_type)
    return [(p.name or "base", {**own, "point": dict(p.values)}) for p in points]


def _yaml(value: object) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
