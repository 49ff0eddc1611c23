"""The server's own profiler around the measured phase (`--server-profiler`): vLLM and SGLang have `/start_profile` and `/stop_profile`."""

from __future__ import annotations

from aiperf.config.model import Config
from aiperf.config.url import Target
from aiperf.endpoints import access_to, targets_of
from aiperf.errors import EndpointError, Note
from aiperf.telemetry.probe.checks import error_text, explain
from aiperf.web import Server

__all__ = ["ServerProfiler"]

_HINT = "`--server-profiler-start-path` and `--server-profiler-stop-path` set other paths; vLLM has them only with VLLM_TORCH_PROFILER_DIR"


class ServerProfiler:
    """Of all servers of a run, each once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._running: list[Target] = []

    def start(self) -> None:
        """EndpointError if one server does not start it; those that have are stopped again."""
        path = self._config.endpoint.server_profiler_start_path
        servers = {target.base.at(target.at_root(path)): target for target in targets_of(self._config)}
        for target in servers.values():
            problem = self._post(target, path)
            if problem is not None:
                self.stop()
                raise EndpointError(f"failed to start the profiler of `{target.base.shown}`: {problem}", _HINT)
            self._running.append(target)

    def stop(self) -> tuple[Note, ...]:
        """Of all that were started; a note for each that does not stop. Nothing if none was started."""
        notes = []
        path = self._config.endpoint.server_profiler_stop_path
        while self._running:
            target = self._running.pop()
            problem = self._post(target, path)
            if problem is not None:
                text = f"failed to stop the profiler of `{target.base.shown}`, which may go on: {problem}"
                notes.append(Note("server_profiler", text))
        return tuple(notes)

    def _post(self, target: Target, path: str) -> str | None:
        """None if it worked, else why not."""
        server = Server(target.base, access_to(self._config))
        at = target.at_root(path)
        try:
            reply = server.ask("POST", at, b"", timeout_s=self._config.endpoint.server_profiler_timeout_seconds)
        except OSError as error:
            return explain(error, server.url).message
        finally:
            server.close()
        return None if reply.is_ok else f"`{at}` returned {error_text(reply)}"
