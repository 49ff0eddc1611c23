"""The image without a container builder: the steps of deploy/Containerfile in a root made by debootstrap, and the command in it.

As in a pod: an ordinary user, a read-only root, /tmp, /dev/shm and /results of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.e2e.command import arguments
from tests.e2e.runs import Sim, simulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.image,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("image"),  # one root, and one build of the wheel in the sources' target
]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MIRROR = "http://deb.debian.org/debian"
MOST_MB = 700
USER = "10001:10001"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_INSIDE = """
set -e
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$root.results" "$root/results"
mount -o remount,ro,bind "$root"
exec chroot --userspec="$USER_IDS" "$root" "$@"
"""


def last_stage() -> tuple[str, tuple[str, ...]]:
    """Debian's release and packages of the image."""
    stage = (DEPLOY / "Containerfile").read_text(encoding="utf-8").split("\nFROM ")[-1]
    release = re.search(r"debian:(\w+)-slim", stage)
    packages = re.search(r"--no-install-recommends ([\w\- ]+) &&", stage)
    assert release is not None, stage
    assert packages is not None, stage
    return release[1], tuple(packages[1].split())


def do(words: Sequence[str | Path], timeout_s: float = 600, **env: str) -> str:
    done = subprocess.run(
        words, env=os.environ | env, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def size_mb(root: Path) -> float:
    return int(do(["du", "-sxk", root]).split()[0]) * 1024 / 1e6


def clean() -> Iterator[str]:
    """The environment of an image's build: of this shell only how an index is reached, with the authorities that are trusted here."""
    yield f"PATH={PATH}"
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        yield f"{name}=/tmp/authorities.crt"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL"):
        if name in os.environ:
            yield f"{name}={os.environ[name]}"


def built_wheel(folder: Path) -> Path:
    """AIPERF_WHEEL, or one made of these sources."""
    if "AIPERF_WHEEL" in os.environ:
        return Path(os.environ["AIPERF_WHEEL"])
    do([sys.executable, "-m", "maturin", "build", "-q", "--release", "--strip", "--out", folder])
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root, as the image's layers are together."""
    folder = tmp_path_factory.mktemp("image")
    root = folder / "root"
    wheel = built_wheel(folder)
    release, packages = last_stage()
    include = f"--include={','.join(packages)}"
    do(["debootstrap", "--variant=minbase", include, release, root, MIRROR])
    # What a slim base leaves out, and what the image's build removes.
    for path in ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / path, ignore_errors=True)
    for source in (wheel, DEPLOY / "install.sh"):
        shutil.copy(source, root / "tmp")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    trusted = root / "tmp/authorities.crt"
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", trusted)
    said = do(["chroot", root, "env", "-i", *clean(), "/tmp/install.sh", f"/tmp/{wheel.name}", "ray"], 900)
    assert re.search(r"\d+\.\d+", said), said
    for left in (root / "tmp").iterdir():
        left.unlink()
    results = root.with_name("root.results")
    results.mkdir()
    shutil.chown(results, 10001, 10001)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulate(tmp_path, ttft_ms=5) as server:
        yield server


def in_image(root: Path, *words: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _INSIDE, "sh", str(root)]
    env = {
        "PATH": PATH,
        "HOME": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
        "USER_IDS": USER,
    }
    return subprocess.run(
        [*unshared, *words], env=env, capture_output=True, text=True, timeout=timeout_s, check=False, cwd="/"
    )


def test_the_image_is_small(image: Path) -> None:
    assert size_mb(image) <= MOST_MB


def test_nothing_of_the_build_is_left(image: Path) -> None:
    assert not list((image / "tmp").iterdir())
    assert not list((image / "opt/aiperf").rglob("pip/__init__.py"))


def test_the_command_of_the_image_runs_on_a_read_only_root(image: Path, sim: Sim) -> None:
    """With generators on Ray, as the pods of a Job have it."""
    words = arguments(sim, "--concurrency", "4", "--request-count", "20", "--generators", "2", "--cluster", "local")
    words[words.index("--artifact-dir") + 1] = "/results/run"
    done = in_image(image, "aiperf", *words)
    assert done.returncode == 0, done.stderr
    run = image.with_name("root.results") / "run"
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert [g["sent"] for g in told["generators"]] == [10, 10]
    assert {p.stat().st_uid for p in run.iterdir()} == {10001}
    assert len(sim.ledger()) == 20


def test_the_root_cannot_be_written(image: Path) -> None:
    done = in_image(image, "sh", "-c", "id -u; touch /opt/aiperf/x")
    assert done.stdout == "10001\n"
    assert "Read-only file system" in done.stderr
