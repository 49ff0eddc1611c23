"""Transcription of audio: `POST /v1/audio/transcriptions`, a form with a file. https://platform.openai.com/docs/api-reference/audio"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra
from aiperf.endpoints.form import CONTENT_TYPE, File
from aiperf.errors import DatasetError
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "AudioTranscription"]


class AudioTranscription(Endpoint):
    """The turn's first audio; its texts are not sent. `--extra-inputs language:en` and others are fields of the form."""

    path = "/v1/audio/transcriptions"
    is_form = True
    headers = (CONTENT_TYPE,)
    pointers = Pointers(usage=("/usage",))
    plain_pointers = pointers
    features = Features(
        streaming=False, tokens_out=False, metrics_title="Audio Transcription Metrics", media=("audios",)
    )

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        audios = [u for m in turn.messages for u in m.audios]
        if not audios:
            raise DatasetError(
                "a transcription needs audio: the data has none", "synthetic audio: `--audio-length-mean 10`"
            )
        fields = {"file": File(audios[0]), "model": options.model, "response_format": "json"}
        return add_extra(dict(fields), turn, options, usage=False)


ENDPOINT = AudioTranscription()
