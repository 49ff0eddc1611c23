"""Files of the user's own in the run's folder: `artifacts.user_files` of AIPerf's YAML, Jinja filled in when the run has ended.

Names in a template: the file's `variables`, and `epoch`, `job_name`, `namespace`, `model`, `endpoint_url`, `artifact_dir`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from aiperf.config.secrets import mask_url
from aiperf.errors import ResultError
from aiperf.json_text import json_text
from aiperf.reports import Exporter, ReportedRun

__all__ = ["EXPORTER"]


def _render(run: ReportedRun) -> Mapping[str, bytes] | None:
    wanted = json.loads(run.config.output.user_files or "{}")
    outcome = run.json.outcome
    urls, models = run.config.endpoint.urls, run.config.endpoint.model_names
    names: dict[str, Any] = {
        **wanted.get("variables", {}),
        "epoch": str(0 if outcome is None else outcome.start_wall_ns // 1_000_000_000),
        "job_name": run.dir.resolve().name,
        "namespace": "",
        "model": models[0] if models else "",
        "endpoint_url": mask_url(urls[0]) if urls else "",
        "artifact_dir": str(run.dir.resolve()),
    }
    files = {}
    for entry in wanted.get("files", []):
        path = PurePosixPath(entry["path"])
        files[str(path)] = _content(entry, names)
    return files


def _content(entry: Mapping[str, Any], names: Mapping[str, Any]) -> bytes:
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    content = entry.get("content")
    kind = entry.get("format") or ("text" if isinstance(content, str) else "json")

    def render(value: Any) -> Any:
        if isinstance(value, str):
            if "{" not in value:
                return value
            text = environment.from_string(value).render(names)
            # What was one expression keeps its type in JSON and YAML.
            return _typed(text) if kind != "text" and value.strip().startswith("{{") and text != value else text
        if isinstance(value, Mapping):
            return {k: render(v) for k, v in value.items()}
        return [render(v) for v in value] if isinstance(value, list) else value

    try:
        filled = render(content)
    except TemplateError as error:
        raise ResultError(f"`{entry['path']}` of `user_files`: {error}") from error
    if kind == "text":
        return str(filled).encode()
    if kind == "yaml":
        import yaml

        return yaml.safe_dump(filled, sort_keys=False, allow_unicode=True).encode()
    return (json_text(filled, indent=2) + "\n").encode()


def _typed(text: str) -> object:
    """A number or a boolean; else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


EXPORTER = Exporter(
    what="user files",
    path=lambda run: run.dir,
    render=_render,
    is_wanted=lambda config: config.output.user_files is not None,
    order=85,
)
