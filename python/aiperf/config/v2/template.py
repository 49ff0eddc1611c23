"""Text of a configuration before it has a meaning: `${VARIABLE:default}`, and `{{ … }}` with the file's own variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["KEPT", "Undefined", "fill_variables", "render_templates", "typed"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")
_OPEN = re.compile(r"\$\{[^}\n]*$")
KEPT: Final = frozenset({"template", "body", "payload_template", "user_files"})
"""Keys whose texts are templates of their own, filled in later."""


class Undefined(ValueError):  # noqa: N818 - what is wrong with the text
    """A variable that has no value."""


def typed(text: str) -> object:
    """The value as YAML reads it: `8` is a number, `[a, b]` a list."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def fill_variables(text: str, env: Mapping[str, str]) -> object:
    """`${NAME}` and `${NAME:default}` from the environment; a text that is one of them alone has the value's type.

    `Undefined`: there is neither a value nor a default.
    """
    if _OPEN.search(text):
        raise Undefined(f"`{text}` has a `${{` without `}}`")

    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        if name in env:
            return env[name]
        if default is None:
            raise Undefined(f"the variable `{name}` is not set and has no default (`${{{name}:default}}`)")
        return str(default)

    filled = _VARIABLE.sub(value, text)
    return typed(filled) if _VARIABLE.fullmatch(text.strip()) else filled


def render_templates(tree: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with its `{{ … }}` filled in: from `variables`, and from the keys of the tree and of `body` by their dotted path.

    `Undefined`: a name that is neither; ValueError: a template that is none.
    """
    if not _has_template(tree):
        return tree
    from jinja2 import StrictUndefined, TemplateError, UndefinedError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)

    def render(value: Any, names: Mapping[str, Any], where: str = "") -> Any:
        if isinstance(value, str) and "{{" in value:
            try:
                text = environment.from_string(value).render(names)
            except UndefinedError as error:
                raise Undefined(f"`{value}` in `{where}`: {error.message}") from error
            except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
                raise ValueError(f"`{value}` in `{where}` is not a template: {error}") from error
            return typed(text) if "{{" not in text else text
        if isinstance(value, Mapping):
            return {
                k: v if k in KEPT else render(v, names, f"{where}.{k}" if where else str(k)) for k, v in value.items()
            }
        if isinstance(value, list):
            return [render(v, names, f"{where}.{i}") for i, v in enumerate(value)]
        return value

    variables: dict[str, Any] = dict(tree.get("variables") or {})
    names = _named(body)
    while waiting := [k for k, v in variables.items() if _has_template(v)]:
        known = {k: v for k, v in variables.items() if k not in waiting}
        failed: Undefined | None = None
        for name in waiting:
            try:
                known[name] = render(variables[name], {**names, **known}, f"variables.{name}")
            except Undefined as error:
                failed = error
        if failed is not None and len(known) == len(variables) - len(waiting):
            raise failed
        variables = {k: known.get(k, v) for k, v in variables.items()}
    return {k: variables if k == "variables" else render(v, {**names, **variables}, k) for k, v in tree.items()}


def _has_template(value: object) -> bool:
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, Mapping):
        return any(_has_template(v) for k, v in value.items() if k not in KEPT)
    return isinstance(value, Sequence) and any(_has_template(v) for v in value)


def _named(body: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of named things by their names too: `{{ phases.profiling.rate }}`."""
    out: dict[str, Any] = {}
    for key, value in body.items():
        is_named = isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value)
        out[key] = {str(v["name"]): v for v in value} if is_named else value
    return out
