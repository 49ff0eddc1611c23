"""Real servers from the distribution: nginx in front of a server and tinyproxy as a proxy (marker `gateways`), Prometheus that scrapes
(marker `prometheus`).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Gateway", "Gateways", "free_port"]

_START_S = 20.0


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago; whoever needs it tries again if it is not any more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Gateway:
    """`process` runs until the end of the test. `log`: what it wrote so far."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def wait_for_log(self, text: str) -> None:
        """Tinyproxy writes its log after the response."""
        give_up = time.monotonic() + _START_S
        while text not in self.log:
            assert time.monotonic() < give_up, f"`{text}` is not in the log:\n{self.log}"
            time.sleep(0.01)


class Gateways:
    """Starts them in a folder of the test; all end with it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._made = 0

    def nginx(
        self,
        upstream: str,
        *,
        listen: str = "",
        server: str = "",
        location: str = "proxy_buffering off;",
        certificate: tuple[Path, Path] | None = None,
    ) -> Gateway:
        """In front of `upstream` (`http://host:port`). `listen`: words after the port, as `http2`; `server`, `location`: directives there."""
        tls = ""
        if certificate is not None:
            listen = f"ssl {listen}"
            tls = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"

        def configure(port: int, folder: Path) -> str:
            temporary = " ".join(
                f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            return f"""
                daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
                worker_rlimit_nofile 8192;
                events {{ worker_connections 4096; }}
                http {{
                  access_log off; {temporary}
                  upstream behind {{ server {upstream.removeprefix("http://")}; keepalive 256; }}
                  server {{
                    listen 127.0.0.1:{port} {listen}; {tls} {server}
                    location / {{
                      proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
                      proxy_read_timeout 100s;
                      {location}
                    }}
                  }}
                }}
            """

        return self._start(["nginx", "-e", "stderr", "-c"], configure)

    def tinyproxy(self, *, user: str | None = None, password: str = "", connect_ports: Sequence[int] = ()) -> Gateway:
        """A forward proxy. `connect_ports`: those it opens tunnels to; none: all."""

        def configure(port: int, folder: Path) -> str:
            lines = [
                f"Port {port}",
                "Listen 127.0.0.1",
                "Timeout 60",
                f'LogFile "{folder}/log"',
                "LogLevel Connect",
                f'PidFile "{folder}/pid"',
                "MaxClients 500",
                "Allow 127.0.0.1",
                'ViaProxyName "tests"',
                *(f"ConnectPort {p}" for p in connect_ports),
            ]
            if user is not None:
                lines.append(f"BasicAuth {user} {password}")
            return "\n".join(lines) + "\n"

        return self._start(["tinyproxy", "-d", "-c"], configure)

    def prometheus(self, target: str) -> Gateway:
        """It scrapes `target` (`host:port`) five times a second, and answers queries at its own port."""

        def configure(_port: int, _folder: Path) -> str:
            job = f"{{job_name: aiperf, scrape_interval: 200ms, static_configs: [{{targets: ['{target}']}}]}}"
            return f"scrape_configs: [{job}]\n"

        listen = ["--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path={folder}/data"]
        return self._start(["prometheus", *listen, "--config.file"], configure)

    def _start(self, command: list[str], configure: Callable[[int, Path], str]) -> Gateway:
        """In the words of `command`, `{port}` and `{folder}` stand for those of this attempt; its configuration's path is put behind."""
        for _ in range(5):
            self._made += 1
            folder = self._folder / f"gateway-{self._made}"
            folder.mkdir()
            port = free_port()
            (folder / "conf").write_text(configure(port, folder), encoding="utf-8")
            output = self._stack.enter_context((folder / "output").open("wb"))
            program = shutil.which(command[0]) or command[0]
            words = [word.format(port=port, folder=folder) for word in command[1:]]
            process = subprocess.Popen([program, *words, str(folder / "conf")], stdout=output, stderr=subprocess.STDOUT)
            self._stack.callback(_end, process)
            if _accepts(port, process):
                return Gateway(port, process, folder / "log")
        text = (folder / "output").read_text(encoding="utf-8", errors="replace")
        pytest.fail(f"{command[0]} does not start:\n{text}")


def _accepts(port: int, process: subprocess.Popen[bytes]) -> bool:
    give_up = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < give_up:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.01)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield Gateways(tmp_path, stack)
