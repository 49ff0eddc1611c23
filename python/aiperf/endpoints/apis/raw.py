"""Bodies as they stand in a file, to a URL as it is given: for APIs of any kind. Text is found at `--extra-inputs response_field:PATH`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers
from aiperf.endpoints.response_field import pointers_for
from aiperf.errors import DatasetError
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "Raw"]


class Raw(Endpoint):
    """DatasetError for a turn that is no ready body."""

    path = ""
    pointers: Pointers = pointers_for(None)
    plain_pointers: Pointers = pointers
    features = Features(text_optional=True)

    def __init__(self, field: object = None) -> None:
        self.pointers = self.plain_pointers = pointers_for(field)

    def configured(self, extra: Mapping[str, object]) -> Endpoint:
        return Raw(extra["response_field"]) if "response_field" in extra else self

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        raise DatasetError(
            "`--endpoint-type raw` sends bodies as they stand in a file: the data has texts, not bodies",
            "`--input-file bodies.jsonl --custom-dataset-type raw_payload`, or `--endpoint-type template`",
        )


ENDPOINT = Raw()
