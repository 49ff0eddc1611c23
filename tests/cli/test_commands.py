"""The command line as a user sees it: output, streams, exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aiperf.cli import COMMANDS, available, main
from aiperf.cli.completion import Shell, render_completion
from aiperf.cli.help import render_help
from aiperf.cli.profile import options
from aiperf.cli.reference import PAGES
from aiperf.metrics import load_all
from aiperf.version import __version__

Golden = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for name in list(os.environ):
        if name.startswith("AIPERF_"):
            monkeypatch.delenv(name)


def test_version_prints_the_version_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_lists_the_commands_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, command in available().items():
        assert (f"  {name} " in out) is not command.is_alias
    assert "\x1b" not in out


def test_profile_help(golden: Golden) -> None:
    """Every option, its aliases and default; whoever changes an option looks at the help it gets."""
    golden(
        "cli/profile-help.txt",
        render_help("aiperf profile --model NAME --url URL [OPTIONS]", (), options(), width=110) + "\n",
    )


def test_help_shows_each_option() -> None:
    text = render_help("x", (), options(), width=110)
    for spec in options():
        for name in spec.flag.names:
            assert name in text, name
        assert spec.flag.help.strip(), spec.path
        assert not spec.flag.help.endswith("."), spec.path


def test_problems_come_all_at_once_on_stderr(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    code = main(
        [
            "profile",
            "--concurency",
            "3",
            "--request-rate",
            "abc",
            "--isl",
            "-5",
            "--goodput",
            "foo:3",
            "--num-users",
            "3",
            "--warmup-concurrency",
            "3",
            "--accuracy-grader",
            "3",
            "--export-level",
            "rawer",
            "--url",
            "ftp://x",
            "--request-timeout-seconds",
            "0",
            "stray",
        ]
    )
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    golden("cli/profile-problems.txt", captured.err)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["profil"], "did you mean `profile`?"),
        (["--versoin"], "there is no option `--versoin`"),
        (["explain", "time_to_frist_token"], "did you mean `time_to_first_token`?"),
        (["report", "/nowhere/at-all"], "there is no folder `/nowhere/at-all`"),
        (["report", "a", "b"], "one run at a time"),
        (["sim", "--prot", "3"], "--port"),
        (["sim", "--options", "{"], "not a JSON object"),
        (["sim", "--fault", "cut:rate"], "`rate` of the fault `cut:rate` is not `name=value`"),
        (["sim", "--tls-cert", "x"], "a certificate and its key belong together"),
    ],
)
def test_wrong_words_exit_with_2_and_a_hint(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert captured.out == ""


def test_explain_prints_formula_unit_and_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "inter-token-latency"]) == 0
    out = capsys.readouterr().out
    assert "Inter Token Latency (inter_token_latency)" in out
    for row in ("Unit      ms", "Formula ", "Source"):
        assert row in out
    assert main(["explain", "ITL"]) == 0
    assert capsys.readouterr().out == out


def test_explain_without_a_tag_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(load_all())
    assert lines[0].startswith("time_to_first_token ")


def test_python_dash_m_works() -> None:
    done = subprocess.run([sys.executable, "-m", "aiperf", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"


def test_help_does_not_import_heavy_libraries() -> None:
    """Start-up limits are in benchmarks/; this is what keeps them."""
    code = (
        "import sys; from aiperf.cli import main; main(['{}'] + {}); "
        "bad = {{'numpy', 'rich', 'yaml', 'tokenizers', 'pydantic'}} & set(sys.modules); print(sorted(bad), file=sys.stderr)"
    )
    top = subprocess.run([sys.executable, "-c", code.format("--help", [])], capture_output=True, text=True, check=True)
    assert top.stderr.strip() == "[]"
    profile = subprocess.run(
        [sys.executable, "-c", code.format("profile", ["--help"])], capture_output=True, text=True, check=True
    )
    assert profile.stderr.strip() == "['pydantic']"


def test_every_command_has_a_summary_and_a_target() -> None:
    for command in COMMANDS:
        assert command.summary
        assert command.target.count(":") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_choices(shell: Shell) -> None:
    script = render_completion(shell)
    for word in ("profile", "request-rate", "export-level", "summary records raw"):
        assert word in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", "/dev/stdin"], input=script, text=True, check=True)


def test_bash_completes_an_option() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("completion is for bash, which is not installed")
    ask = 'COMP_WORDS=(aiperf profile --request-ra); COMP_CWORD=2; _aiperf; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run([bash, "-c", render_completion("bash") + ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "--request-rate",
        "--request-rate-mode",
        "--request-rate-series",
        "--request-rate-ramp-duration",
    ]


def test_reference_pages_are_what_the_options_say() -> None:
    folder = Path(__file__).parents[2] / "docs" / "reference"
    for name, render in PAGES.items():
        assert (folder / name).read_text(encoding="utf-8") == render(), "run `python -m aiperf.cli.reference`"
