"""A `kubectl` for PATH: records each call, and plays back the states of a run, one per look at the pods.

State in the folder `$FAKE_KUBECTL`: `calls.jsonl`, `applied.yaml`, `states.json` (a list of `{workload, pods}`; the last stays),
`results/` (what a pod would have in /results), `refuse` (it refuses everything, or the calls that begin with the words in it).
A workload is there when it has been applied, or `there` exists.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_KUBECTL"])


def state() -> dict[str, object]:
    states: list[dict[str, object]] = json.loads((FOLDER / "states.json").read_text())
    looks = FOLDER / "looks"
    seen = int(looks.read_text()) if looks.exists() else 0
    return states[min(seen, len(states) - 1)]


def look() -> None:
    looks = FOLDER / "looks"
    looks.write_text(str(int(looks.read_text()) + 1 if looks.exists() else 1))


def inside(words: list[str]) -> int:
    """`exec POD … -- WORDS`: the container's root is the folder."""
    results = str(FOLDER / "results")
    if words[0] == "kill":
        return 0
    return subprocess.run([w.replace("/results", results, 1) for w in words], check=False).returncode


def main(argv: list[str]) -> int:
    with (FOLDER / "calls.jsonl").open("a") as out:
        out.write(json.dumps(argv) + "\n")
    words = [w for w in argv if not w.startswith(("--namespace=", "--context=", "--kubeconfig="))]
    refuse = FOLDER / "refuse"
    if refuse.exists() and " ".join(words).startswith(refuse.read_text()):
        sys.stderr.write(f"Error from server (Forbidden): {words[0]} is forbidden\n")
        return 1
    match words:
        case ["apply", *_]:
            (FOLDER / "applied.yaml").write_text(sys.stdin.read())
        case ["get", "pods", *_]:
            sys.stdout.write(json.dumps({"items": state()["pods"]}))
            look()
        case ["get", kind, name, *_] if not name.startswith("-"):
            workload = state()["workload"]
            is_there = (FOLDER / "applied.yaml").exists() or (FOLDER / "there").exists()
            is_kind = isinstance(workload, dict) and str(workload.get("kind", "Job")).lower() == kind
            sys.stdout.write(json.dumps(workload) if is_there and is_kind else "")
        case ["get", *_]:
            workload = state()["workload"]
            sys.stdout.write(json.dumps(workload) if workload else "")
        case ["logs", *_]:
            sys.stdout.write("the log of the pod\n")
        case ["exec", *rest]:
            return inside(rest[rest.index("--") + 1 :])
        case ["delete", kinds, *_] if kinds.startswith("job,") and (FOLDER / "applied.yaml").exists():
            sys.stdout.write('job.batch "run" deleted\n')
        case _:
            pass
    return 0


sys.exit(main(sys.argv[1:]))
