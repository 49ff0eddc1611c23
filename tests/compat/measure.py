"""`make compat`: the commands with AIPerf 0.13.0 and with this tool, side by side.

`python -m tests.compat.measure [--peer VENV] [--only NAME,…] [--update]`: with `--update` what AIPerf writes becomes
`tests/compat/aiperf-0.13/NAME.json`, which the tests compare ours with where AIPerf is not installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.versus import cache_vocabulary, find_peer
from tests.compat.commands import COMMANDS, Command, serving
from tests.compat.differences import compare, load_differences
from tests.compat.shapes import Shape, shape_of

RECORDED = Path(__file__).parent / "aiperf-0.13"
TIMEOUT_S = 300


def run_command(executable: Path, command: Command, folder: Path) -> tuple[int, Shape]:
    """Exit code and what the run's folder holds."""
    with serving(command, folder) as place:
        codes = []
        for words in (place.profile(command), *(place.words(line) for line in command.then)):
            with (folder / "output.txt").open("ab") as out:
                done = subprocess.run(
                    [executable, *words], cwd=folder, stdout=out, stderr=out, timeout=TIMEOUT_S, check=False
                )
            codes.append(done.returncode)
        return max(codes), shape_of(place.artifacts)


def draw(peer: Path, folder: Path) -> set[str]:
    """What AIPerf's `plot` draws of a folder of results."""
    with tempfile.TemporaryDirectory(prefix="aiperf-compat-") as copy:
        results = Path(copy, "run")
        shutil.copytree(folder, results, ignore=shutil.ignore_patterns("plots"))
        subprocess.run(
            [peer, "plot", "--paths", results], cwd=copy, capture_output=True, timeout=TIMEOUT_S, check=False
        )
        return {p.name for p in results.rglob("plots/*.png")}


def recorded(name: str) -> tuple[int, Shape]:
    """Exit code and shape as AIPerf left them."""
    content = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    shape: Shape = {}
    for file, places in content["files"].items():
        inside = content["files"][places] if isinstance(places, str) else places
        shape |= {file: "file", **{f"{file}: {place}": leaf for place, leaf in inside.items()}}
    return content["code"], shape


def record(name: str, code: int, shape: Shape) -> None:
    """By file; one that is like another only names it."""
    files: dict[str, dict[str, str] | str] = {place: {} for place, leaf in sorted(shape.items()) if leaf == "file"}
    for place, leaf in sorted(shape.items()):
        file, _, inside = place.partition(": ")
        if inside and isinstance(inside_file := files[file], dict):
            inside_file[inside] = leaf
    first: dict[str, str] = {}
    for file, inside_file in list(files.items()):
        known = first.setdefault(json.dumps(inside_file), file)
        if known != file and inside_file:
            files[file] = known
    content = json.dumps({"code": code, "files": files}, indent=0, ensure_ascii=False)
    (RECORDED / f"{name}.json").write_text(content + "\n", encoding="utf-8")


def _show(command: Command, peer: tuple[int, Shape], ours: tuple[int, Shape]) -> int:
    unexplained = compare(command, peer[1], ours[1], load_differences())
    if not command.code_differs and peer[0] != ours[0]:
        unexplained.append(f"exit code: {peer[0]} → {ours[0]}")
    print(f"{command.name}: {len(peer[1])} places, {len(unexplained)} unexplained differences", flush=True)
    for line in unexplained:
        print(f"  {line}", flush=True)
    return len(unexplained)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, metavar="VENV", help="an environment with AIPerf 0.13.0")
    parser.add_argument("--only", help="comma-separated names of commands")
    parser.add_argument("--update", action="store_true", help="keep what AIPerf writes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the results of both here")
    parser.add_argument("--recorded", action="store_true", help="against what was kept, without AIPerf")
    options = parser.parse_args(argv)
    names = options.only.split(",") if options.only else [c.name for c in COMMANDS]
    total = 0
    with ExitStack() as stack:
        work = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiperf-compat-")))
        peer = None
        if not options.recorded:
            cache_vocabulary(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiperf-compat-"))))
            peer = find_peer(options.peer, stack).executable
        for command in (c for c in COMMANDS if c.name in names):
            theirs = (
                recorded(command.name) if peer is None else run_command(peer, command, work / command.name / "aiperf")
            )
            if options.update and peer is not None:
                record(command.name, *theirs)
            ours = run_command(Path(sys.executable).with_name("aiperf"), command, work / command.name / "ours")
            total += _show(command, theirs, ours)
            if peer is not None and command.plots:
                drawn = [draw(peer, work / command.name / who / "run") for who in ("aiperf", "ours")]
                total += drawn[0] != drawn[1]
                print(
                    f"  AIPerf's plot: {', '.join(sorted(drawn[0]))}; of ours {', '.join(sorted(drawn[1]))}", flush=True
                )
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
