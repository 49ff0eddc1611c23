"""`aiperf merge DIR…`: the parts of one run (`--part 1/8` … `8/8`) as one run, with the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from aiperf.config.flag import Flag

__all__ = ["command"]


def command(
    *parts: Annotated[
        Path, Flag(help="Folders of all parts of one run; what a missing part was to send counts as unsent")
    ],
    artifact_dir: Annotated[
        Path | None,
        Flag(help="Output folder of the merged run; default: beside the first part, without its `-part1of8`"),
    ] = None,
) -> int:
    """Join the parts of a run that several machines sent, exactly: records concatenated, metrics computed from all of them."""
    import re

    from aiperf.cli.message import print_notes
    from aiperf.cli.results import write_and_show
    from aiperf.errors import ConfigError, Problem
    from aiperf.run.merge import merge

    if not parts:
        raise ConfigError([Problem("no part is named", None, "`aiperf merge artifacts/run-part*of8`")])
    absent = [p for p in parts if not p.is_dir()]
    if absent:
        raise ConfigError([Problem(f"there is no folder `{p}`") for p in absent])
    first = parts[0]
    plain = re.sub(r"-part\d+of\d+$", "", first.name)
    default = first.with_name(plain if plain != first.name else f"{first.name}-merged")
    done = write_and_show(merge(parts, artifact_dir or default))
    print_notes(note.text for note in done.notes)
    return int(done.exit_code)
