"""`aiperf compare A B [C…]`: runs of this tool or of others, with significance, and as a check in CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from aiperf.config.flag import Flag
from aiperf.number_text import exact

__all__ = ["command"]


def command(
    *runs: Annotated[
        Path,
        Flag(
            help="Folders of runs (or of the repeats of one), or result files of other tools (`file.json#2`: the second in it); the first is the baseline"
        ),
    ],
    baseline: Annotated[Path | None, Flag(help="Baseline run to compare all others with")] = None,
    fail_on: Annotated[
        list[str] | None,
        Flag(
            help="Exit with code 3 if a metric is worse by more than this: `time_to_first_token:p99 +5%`; repeatable",
        ),
    ] = None,
    min_effect: Annotated[str, Flag(help="Smallest change that counts as a difference")] = "2%",
    confidence_level: Annotated[float, Flag(help="Confidence level of the intervals, 0 to 1")] = 0.95,
    seed: Annotated[int, Flag(help="Random seed of the bootstrap")] = 0,
    json: Annotated[bool, Flag(help="Print JSON instead of tables")] = False,
    markdown: Annotated[Path | None, Flag(help="Also write a summary for a pull request")] = None,
) -> int:
    """Same workload? Which figures differ, by how much, and is it more than chance?"""
    from aiperf.compare.comparison import compare_sides
    from aiperf.compare.difference import CompareOptions
    from aiperf.compare.fail_on import check_fail_on, parse_fail_on
    from aiperf.compare.render import build_screen, render_json, render_markdown
    from aiperf.config.parse import parse_number
    from aiperf.errors import ConfigError, ExitCode, Problem
    from aiperf.run.imported import load_sides

    paths = ([baseline] if baseline is not None else []) + list(runs)
    problems: list[Problem] = []
    if len(paths) < 2:
        problems.append(Problem("needs two runs at least", None, "`aiperf compare artifacts/a artifacts/b`"))
    rules = []
    for text in fail_on or ():
        try:
            rules.append(parse_fail_on(text))
        except ValueError as error:
            problems.append(Problem(str(error), "--fail-on"))
    effect = 0.0
    try:
        effect = parse_number(min_effect, unit="share")
    except ValueError as error:
        problems.append(Problem(str(error), "--min-effect"))
    if not 0 < confidence_level < 1:
        problems.append(Problem(f"`{exact(confidence_level)}` must lie between 0 and 1", "--confidence-level"))
    if problems:
        raise ConfigError(problems)
    options = CompareOptions(effect, confidence_level, seed)
    sides = load_sides(paths)
    comparison = compare_sides(sides, options)
    if rules:
        others = [p.name for p in comparison.pairs if not p.is_comparable]
        if others:
            raise ConfigError(
                [
                    Problem(
                        f"cannot judge {', '.join(f'`{n}`' for n in others)}: the workload is different ({comparison.pairs[0].relation.reason})",
                        "--fail-on",
                    )
                ]
            )
    verdicts = [v for side in sides[1:] for v in check_fail_on(rules, sides[0], side, options)]
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(render_markdown(comparison, verdicts), encoding="utf-8")
    if json:
        print(render_json(comparison, verdicts), end="")
    else:
        from aiperf.cli.results import show

        show(build_screen(comparison, verdicts), width=160)
    return int(ExitCode.THRESHOLD_MISSED if any(v.is_failed for v in verdicts) else ExitCode.OK)
