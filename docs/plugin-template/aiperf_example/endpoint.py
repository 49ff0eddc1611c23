"""Example: completions under a path of its own, with a field that the server wants beside the prompt."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions
from aiperf.endpoints.apis.completions import ENDPOINT as COMPLETIONS
from aiperf.session import Message, Turn


class Answers(type(COMPLETIONS)):  # type: ignore[misc]  # its pointers say where text, usage and errors are
    """Path, headers and body are ours; where the text of a response is, the pointers say. No Python runs per chunk."""

    path = "/v1/completions"
    headers = (("X-Example", "1"),)

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        return {**super().body(turn, history, options), "user": "example"}


ENDPOINT = Answers()
