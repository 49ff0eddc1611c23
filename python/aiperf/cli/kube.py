"""`aiperf kube`: a run inside a Kubernetes cluster: print its manifest, or apply, follow, collect and delete it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.flag import FieldSpec, Flag, Given, spec_of

if TYPE_CHECKING:
    from aiperf.kube.command import ClusterCommand
    from aiperf.kube.kubectl import Kubectl
    from aiperf.kube.options import KubeOptions

__all__ = ["SUBCOMMANDS", "options", "run"]

SUBCOMMANDS = ("manifest", "run", "status", "logs", "collect", "delete", "node")

_HELP = spec_of("", "help", bool, Flag("--help", "-h", help="Show this help", group="Command"), False)
_CONFIG = spec_of(
    "",
    "config_file",
    Path,
    Flag("--config", "-f", help="Configuration file of `aiperf profile`; it is sent along", group="Command"),
    None,
)
_FOLLOW = (
    spec_of(
        "",
        "collect_to",
        Path,
        Flag("--to", "--artifact-dir", help="Folder for the results; default artifacts/<name>", group="Command"),
        None,
    ),
    spec_of(
        "",
        "keep",
        bool,
        Flag("--keep", help="Leave the objects in the cluster when the run has ended", group="Command"),
        False,
    ),
    spec_of(
        "",
        "detach",
        bool,
        Flag("--detach", help="Apply and return; `status`, `logs` and `collect` come later", group="Command"),
        False,
    ),
    spec_of(
        "",
        "timeout",
        float,
        Flag(
            "--timeout",
            help="Time after which a run that has not ended is deleted",
            group="Command",
            unit="s",
            sweep=False,
        ),
        None,
    ),
)
_KIND = spec_of(
    "",
    "kind",
    str,
    Flag("--kind", help="job, jobset or rayjob; default: the one that is there", group="Command"),
    None,
)
_INDEX = spec_of(
    "", "index", int, Flag("--index", help="Generator whose log is shown", group="Command", sweep=False), 0
)

_OVERVIEW = """\
Usage: aiperf kube COMMAND [OPTIONS]

Run a benchmark inside a Kubernetes cluster, next to the model

Commands
  manifest  Print the objects for `kubectl apply -f -`
  run       Apply them, follow the run, collect the results, delete the objects
  status    What a run is doing: its pods in plain words
  logs      Output of a run's pod
  collect   Copy the results of a run that waits to be collected
  delete    Delete the objects of a run
  node      What runs in each pod (the manifest calls it)

AIPerf's names work too: generate, profile, list, results, cancel.
`aiperf kube run --help` lists the options."""
_ALIASES = {"generate": "manifest", "profile": "run", "list": "status", "results": "collect", "cancel": "delete"}


def options() -> tuple[FieldSpec, ...]:
    """Of `manifest` and `run`, without those of `aiperf profile`, which stand in the same line."""
    from aiperf.kube.options import specs

    return (*specs(), *_FOLLOW, _CONFIG, _HELP)


def _of_the_manifest() -> tuple[FieldSpec, ...]:
    """Without those of following a run: `manifest` only prints."""
    return tuple(s for s in options() if s not in _FOLLOW)


def run(argv: Sequence[str]) -> int:
    from aiperf.errors import ConfigError, did_you_mean

    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "manifest": _manifest,
        "run": _run,
        "status": _status,
        "logs": _logs,
        "collect": _collect,
        "delete": _delete,
        "node": _node,
    }
    word = argv[0] if argv else "--help"
    if word in {"--help", "-h"}:
        print(_OVERVIEW)
        return 0
    command = commands.get(_ALIASES.get(word, word))
    if command is None:
        raise ConfigError(f"`aiperf kube` has no command `{word}`", did_you_mean(word, (*commands, *_ALIASES)))
    return command(argv[1:])


def _split(
    argv: Sequence[str], usage: str, own: tuple[FieldSpec, ...]
) -> tuple[KubeOptions, ClusterCommand, dict[str, str]] | None:
    """Options of the cluster and of `aiperf profile` stand in one line, the latter also behind `--`. None: help was printed."""
    from aiperf.cli.args import parse
    from aiperf.cli.help import render_help
    from aiperf.config.aiperf_options import FOREIGN
    from aiperf.config.model import specs as profile_specs
    from aiperf.errors import ConfigError, Problem
    from aiperf.kube.command import cluster_command
    from aiperf.kube.options import read_options

    if "--help" in argv or "-h" in argv:
        intro = ("All options of `aiperf profile` may stand in the same line, or behind `--`.",)
        print(render_help(usage, intro, own))
        return None
    ours = {n for s in own for n in s.flag.names}
    theirs = [s for s in profile_specs().values() if not ours & set(s.flag.names)]
    at = list(argv).index("--") if "--" in argv else len(argv)
    parsed = parse(argv[:at], (*theirs, *own), FOREIGN)
    behind = parse(argv[at + 1 :], (*profile_specs().values(), _CONFIG), FOREIGN)
    problems: list[Problem] = [*parsed.problems, *behind.problems]
    problems += [Problem(f"`{w}` is an unexpected argument") for w in (*parsed.positionals, *behind.positionals)]
    mine = {s.name for s in (*_FOLLOW, _CONFIG)}
    given = [*parsed.given, *behind.given]
    plain = {g.spec.name: g.texts[-1] for g in given if not g.spec.section and g.spec.name in mine}
    cluster: list[Given] = [g for g in given if not g.spec.section and g.spec.name not in mine]
    faults: list[Problem] = []
    read: KubeOptions | None = None
    command: ClusterCommand | None = None
    try:
        read = read_options(cluster, problems)
    except ConfigError as error:
        faults += error.problems
    try:
        config_file = Path(plain["config_file"]) if "config_file" in plain else None
        generators = 1 if read is None else read.generators
        command = cluster_command([g for g in given if g.spec.section], config_file=config_file, generators=generators)
    except ConfigError as error:
        faults += error.problems
    if read is None or command is None:
        raise ConfigError(tuple(dict.fromkeys(faults)))
    return read, command, plain


def _manifest(argv: Sequence[str]) -> int:
    from aiperf.kube.manifest import build_objects, render

    parts = _split(
        argv,
        "aiperf kube manifest --image IMAGE [OPTIONS] --model NAME --url URL [OPTIONS OF PROFILE]",
        _of_the_manifest(),
    )
    if parts is not None:
        print(render(build_objects(parts[0], parts[1])), end="")
    return 0


def _run(argv: Sequence[str]) -> int:
    from aiperf.errors import ConfigError
    from aiperf.kube.follow import check_absent
    from aiperf.kube.kubectl import Kubectl
    from aiperf.kube.manifest import build_objects, name_of, render

    parts = _split(
        argv, "aiperf kube run --image IMAGE [OPTIONS] --model NAME --url URL [OPTIONS OF PROFILE]", options()
    )
    if parts is None:
        return 0
    settings, command, plain = parts
    timeout = _timeout(plain)
    if settings.schedule is not None and plain.get("detach") != "true":
        raise ConfigError("a scheduled run cannot be followed", "apply it and return: `aiperf kube run --detach …`")
    objects = build_objects(settings, command)
    name = name_of(settings, command)
    kubectl = Kubectl(settings)
    if settings.schedule is None:
        check_absent(kubectl, name, settings.kind)
    kubectl.run("apply", "-f", "-", stdin=render(objects))
    applied = ", ".join(f"{o['kind']} {o['metadata']['name']}" for o in objects)
    _say(f"applied {applied}")
    if plain.get("detach") == "true":
        _say(f"follow it with `aiperf kube status {name}`, end it with `aiperf kube delete {name}`")
        return 0
    to = Path(plain.get("collect_to", f"artifacts/{name}"))
    return _follow(kubectl, settings, name, to=to, timeout_s=timeout, is_kept=plain.get("keep") == "true")


def _timeout(plain: dict[str, str]) -> float | None:
    from aiperf.config.parse import parse_number
    from aiperf.errors import ConfigError, Problem

    if "timeout" not in plain:
        return None
    try:
        return parse_number(plain["timeout"], unit="s")
    except ValueError as error:
        raise ConfigError((Problem(str(error), "--timeout"),)) from error


def _follow(
    kubectl: Kubectl, settings: KubeOptions, name: str, *, to: Path, timeout_s: float | None, is_kept: bool
) -> int:
    from aiperf.errors import ExitCode
    from aiperf.kube.follow import Follower, delete
    from aiperf.kube.kubectl import KubectlError

    follower = Follower(
        kubectl=kubectl, name=name, kind=settings.kind, say=_say, waits_to_be_collected=settings.results_pvc is None
    )
    interrupted = False
    while True:
        try:
            if interrupted:
                _stop(kubectl, name)
            end = follower.follow(timeout_s)
            break
        except KeyboardInterrupt:
            if interrupted:
                _say("interrupted again: the run is deleted")
                delete(kubectl, name)
                return int(ExitCode.INTERRUPTED)
            interrupted = True
            _say("interrupted: the load stops, results are collected; once more deletes the run")
    _say(f"the run has ended: {end.reason}")
    code = int(ExitCode.INTERRUPTED) if interrupted else end.exit_code
    if settings.results_pvc is not None:
        _say(f"the results are in the volume claim {settings.results_pvc}, folder {name}/run")
    elif not _fetched(kubectl, name, to):
        code = code or int(ExitCode.ERROR)
        is_kept = is_kept or _still_waits(kubectl, name)
    if not is_kept:
        try:
            delete(kubectl, name)
        except KubectlError as error:
            _say(f"the objects of the run are still in the cluster: {error.message}; `aiperf kube delete {name}`")
            code = code or int(ExitCode.ERROR)
    return code


def _fetched(kubectl: Kubectl, name: str, to: Path) -> bool:
    """The results are here; else it was said why not."""
    from aiperf.errors import AIPerfError
    from aiperf.kube.follow import collect

    try:
        found = collect(kubectl, name, to)
    except AIPerfError as error:
        _say("; ".join(t for t in (error.message, error.hint) if t))
        return False
    _say(found.text)
    return True


def _still_waits(kubectl: Kubectl, name: str) -> bool:
    """The pod with the results is there, or nobody can say: nothing is deleted, and it was said how to get at them."""
    from aiperf.kube.follow import holder_of
    from aiperf.kube.kubectl import KubectlError

    try:
        is_there = holder_of(kubectl, name) is not None
    except KubectlError:
        is_there = True
    if is_there:
        _say(f"the run is left in the cluster: `aiperf kube collect {name}`, then `aiperf kube delete {name}`")
    return is_there


def _stop(kubectl: Kubectl, name: str) -> None:
    """A first Ctrl-C for the command in the pod, whose first process hands it on."""
    from aiperf.kube.follow import container_of
    from aiperf.kube.kubectl import KubectlError
    from aiperf.kube.pod import RUN_LABEL
    from aiperf.kube.states import head_pod

    try:
        head = head_pod(kubectl.get("pods", "-l", f"{RUN_LABEL}={name}"))
        if head is not None:
            pod = str(head["metadata"]["name"])
            kubectl.run("exec", pod, "--container", container_of(head), "--", "kill", "-INT", "1")
    except KubectlError as error:
        _say(error.message)


def _named(argv: Sequence[str], usage: str, *more: FieldSpec) -> tuple[Kubectl, list[str], dict[str, str]] | None:
    from aiperf.cli.args import parse
    from aiperf.cli.help import render_help
    from aiperf.errors import ConfigError
    from aiperf.kube.kubectl import Kubectl
    from aiperf.kube.options import cluster_specs, read_options

    known = (*cluster_specs(), *more, _HELP)
    if "--help" in argv or "-h" in argv:
        print(render_help(usage, (), known))
        return None
    parsed = parse(argv, known)
    extra = {s.name for s in more}
    settings = read_options([g for g in parsed.given if g.spec.name not in extra], parsed.problems)
    plain = {g.spec.name: g.texts[-1] for g in parsed.given if g.spec.name in extra}
    if len(parsed.positionals) > 1 or (not parsed.positionals and "[NAME]" not in usage):
        raise ConfigError("one run at a time must be named" if parsed.positionals else "no run is named", usage)
    return Kubectl(settings), parsed.positionals, plain


def _status(argv: Sequence[str]) -> int:
    from aiperf.errors import AIPerfError
    from aiperf.kube.follow import RESOURCES, find_state, kind_of
    from aiperf.kube.kubectl import KubectlError
    from aiperf.kube.pod import RUN_LABEL

    found = _named(argv, "aiperf kube status [NAME] [OPTIONS]", _KIND)
    if found is None:
        return 0
    kubectl, names, plain = found
    if not names:
        for kind in RESOURCES:
            try:
                runs = kubectl.get(kind, "-l", RUN_LABEL)
            except KubectlError:
                if kind == "job":
                    raise
                continue  # the cluster has no such kind
            for item in runs:
                print(f"{item['metadata']['labels'][RUN_LABEL]}\t{kind}\t{item['metadata']['creationTimestamp']}")
        return 0
    state, _ = find_state(kubectl, names[0], plain.get("kind") or kind_of(kubectl, names[0]) or RESOURCES[0])
    if state.is_gone:
        raise AIPerfError(f"there is no run `{names[0]}` in the cluster", "`aiperf kube status` lists the runs")
    print("\n".join(state.lines))
    if state.end is not None:
        print(f"ended: {state.end.reason}")
    return state.end.exit_code if state.end is not None else 0


def _logs(argv: Sequence[str]) -> int:
    from aiperf.errors import AIPerfError
    from aiperf.kube.follow import container_of
    from aiperf.kube.pod import RUN_LABEL

    found = _named(argv, "aiperf kube logs NAME [OPTIONS]", _INDEX)
    if found is None:
        return 0
    kubectl, names, plain = found
    pods = sorted(kubectl.get("pods", "-l", f"{RUN_LABEL}={names[0]}"), key=lambda p: str(p["metadata"]["name"]))
    wanted = plain.get("index", "0")
    label = "batch.kubernetes.io/job-completion-index"
    chosen = [p for p in pods if p["metadata"].get("labels", {}).get(label, wanted) == wanted]
    if not chosen:
        raise AIPerfError(
            f"`{names[0]}` has no pod with index {wanted}",
            "pods: " + (", ".join(str(p["metadata"]["name"]) for p in pods) or "none"),
        )
    return kubectl.start(("logs", str(chosen[0]["metadata"]["name"]), "--container", container_of(chosen[0]))).wait()


def _collect(argv: Sequence[str]) -> int:
    from aiperf.kube.follow import collect

    found = _named(argv, "aiperf kube collect NAME [OPTIONS]", _FOLLOW[0])
    if found is None:
        return 0
    kubectl, names, plain = found
    _say(collect(kubectl, names[0], Path(plain.get("collect_to", f"artifacts/{names[0]}"))).text)
    return 0


def _delete(argv: Sequence[str]) -> int:
    from aiperf.errors import AIPerfError
    from aiperf.kube.follow import delete

    found = _named(argv, "aiperf kube delete NAME [OPTIONS]")
    if found is None:
        return 0
    name = found[1][0]
    if not delete(found[0], name):
        raise AIPerfError(f"there is no run `{name}` in the cluster", "`aiperf kube status` lists the runs")
    _say(f"the objects of {name} are deleted")
    return 0


def _node(argv: Sequence[str]) -> int:
    import os

    from aiperf.cli.args import parse
    from aiperf.config.parse import parse_number
    from aiperf.errors import ConfigError
    from aiperf.kube.command import RESULTS
    from aiperf.kube.node import Node, own_index, run_node

    group = "Command"
    known = (
        spec_of("", "head", str, Flag("--head", help="Host of index 0", group=group), None),
        spec_of("", "generators", int, Flag("--generators", help="Pods in all", group=group, sweep=False), 1),
        spec_of(
            "",
            "keep_for",
            float,
            Flag("--keep-for", help="Seconds to wait to be collected", group=group, sweep=False),
            0,
        ),
        spec_of("", "results", Path, Flag("--results", help="Folder of the results", group=group), None),
        spec_of("", "port", int, Flag("--port", help="Port of the head", group=group, sweep=False), 0),
        _HELP,
    )
    at = list(argv).index("--") if "--" in argv else len(argv)
    parsed = parse(argv[:at], known)
    if parsed.problems or parsed.positionals:
        raise ConfigError(tuple(parsed.problems) or f"`{parsed.positionals[0]}` stands before `--`")
    given = {g.spec.name: g.texts[-1] for g in parsed.given}
    defaults = Node(words=(), results=Path(RESULTS))
    node = Node(
        words=argv[at + 1 :],
        results=Path(given.get("results", RESULTS)),
        index=own_index(),
        generators=int(given.get("generators", "1")),
        head=given.get("head", ""),
        ip=os.environ.get("POD_IP", defaults.ip),
        port=int(given.get("port", "0")) or defaults.port,
        keep_for_s=parse_number(given.get("keep_for", "0"), unit="s"),
    )
    return run_node(node)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
