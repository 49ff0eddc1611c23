"""Each option of each command with bad values: exit code 2 and a message of ours, never an internal error."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiperf.cli import available, kube, main, report
from aiperf.cli.command import options_of
from aiperf.cli.completion import words_of
from aiperf.config.flag import FieldSpec, Given
from aiperf.config.model import specs
from aiperf.config.resolve import configure
from aiperf.errors import ConfigError, Problem

BAD = (
    "",
    " ",
    "x",
    "-1",
    "0",
    "nan",
    "1e999",
    "9" * 30,
    "{",
    "[]",
    '{"a":NaN}',
    "a,b",
    "::",
    "1:2:3",
    "🙂",
    "/nowhere/x",
)


@pytest.mark.slow
@pytest.mark.parametrize("spec", specs().values(), ids=lambda s: s.path)
def test_option_of_profile(spec: FieldSpec) -> None:
    """A value is accepted or refused with its place; nothing else may come out."""
    model = Given(specs()["endpoint.model_names"], ("m",), "--model")
    for text in BAD:
        problems: tuple[Problem, ...] = ()
        try:
            configure([model, Given(spec, (text,), spec.shown)], env={})
        except ConfigError as error:
            problems = error.problems
        assert all(p.message.strip() and (p.where or p.hint) for p in problems), (text, problems)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def commands() -> list[tuple[str, ...]]:
    words: list[tuple[str, ...]] = []
    for name, command in available().items():
        if command.is_alias or command.target.endswith(":run"):
            continue
        flags = words_of(name)
        subs = [f for f in flags if not f.startswith("-")]
        words += [(name, sub) for sub in subs] or [(name,)]
    return words


def flags_of(words: tuple[str, ...]) -> list[str]:
    if len(words) == 1:
        return [f for f in words_of(words[0]) if f.startswith("--")]
    module, _, attribute = available()[words[0]].target.partition(":")
    sub = getattr(importlib.import_module(f"aiperf.cli.{module}"), attribute)[words[1]]
    return sorted({n for spec in options_of(sub) for n in spec.flag.names if n.startswith("--")})


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_option_of_another_command(
    words: tuple[str, ...],
    taken_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each call fails in the end whatever its option is: a file that is not there, a port that is taken."""
    monkeypatch.chdir(tmp_path)

    def stop(*_: object) -> object:
        raise ConfigError("the test ends here")

    monkeypatch.setattr("aiperf.run.capacity.find_capacity", stop)
    ends: dict[str, list[str]] = {"sim": [], "capacity": [], "explain": ["nothing"], "completion": ["nothing"]}
    end = ends.get(words[0], ["nowhere", "nowhere"] if words[0] == "compare" else ["nowhere"])
    listens = {"--host", "--unix"} if words[0] == "sim" else set()  # elsewhere, where the port is free
    for flag in sorted(set(flags_of(words)) - listens):
        for text in BAD:
            port = ["--port", str(taken_port)] if words[0] == "sim" and flag != "--port" else []
            if (words[0], flag, text) == ("sim", "--port", "0"):
                continue  # a free port: it would serve
            code = main([*words, *end, *port, f"{flag}={text}"])
            captured = capsys.readouterr()
            assert "internal" not in captured.err, (flag, text, captured.err)
            assert code in {1, 2}, (flag, text, captured.err)
            assert captured.err.startswith("error: "), (flag, text, captured.err)


@pytest.mark.slow
def test_option_of_report(capsys: pytest.CaptureFixture[str]) -> None:
    for spec in report.options():
        for text in BAD if spec.name != "help" else ():
            code = main(["report", "nowhere", f"{spec.shown}={text}"])
            captured = capsys.readouterr()
            assert (code, "internal" in captured.err) == (2, False), (spec.path, text, captured.err)


@pytest.mark.slow
def test_option_of_kube(capsys: pytest.CaptureFixture[str]) -> None:
    """None of these lines is one for `kubectl`: the manifest without an image is refused whatever else it says."""
    for spec in kube.options():
        for text in BAD if spec.name != "help" else ():
            code = main(["kube", "manifest", "--model", "m", f"{spec.shown}={text}"])
            captured = capsys.readouterr()
            if spec.name == "image" and code == 0:
                continue
            assert (code, "internal" in captured.err) == (2, False), (spec.name, text, captured.err)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["sim", "--preset", "no-such-model"], "no-such-model"),
        (["sim", "--port", "99999"], "99999"),
        (["sim", "--fault", "nothing"], "nothing"),
        (["sim", "--options", "{}x"], "JSON"),
        (["sim", "--host", "nowhere.invalid"], "nowhere.invalid"),
        (["sim", "--tls-cert", "a", "--tls-key", "b"], "`a`"),
        (["view", ".", "--port", "99999"], "99999"),
        (["capacity", "--workers", "0"], "--workers"),
    ],
)
def test_the_message_names_what_is_wrong(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert "internal" not in message
    assert words in message


@pytest.mark.parametrize("study", ["cache", "kv"])
@pytest.mark.parametrize(
    "words", [("--generators", "2"), ("--part", "1/2", "--start-at", "2030-01-01T00:00:00Z")], ids=["ray", "part"]
)
def test_a_study_is_sent_from_one_machine(
    capsys: pytest.CaptureFixture[str], study: str, words: tuple[str, ...]
) -> None:
    """Its runs follow each other, and all parts of one start at one time."""
    assert main([study, "--model", "m", "--url", "http://127.0.0.1:1", "--tokenizer", "builtin", *words]) == 2
    err = capsys.readouterr().err
    assert words[0] in err
    assert f"`aiperf {study}`" in err
