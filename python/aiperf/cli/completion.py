"""`aiperf completion SHELL`: a script that completes commands, options, choices and files."""

from __future__ import annotations

from typing import Annotated, Literal

from aiperf.config.flag import Flag

__all__ = ["command", "render_completion"]

Shell = Literal["bash", "zsh", "fish"]


def command(shell: Annotated[Shell, Flag(help="The shell it is for")], /) -> int:
    """Print a completion script.

    bash: eval "$(aiperf completion bash)"; zsh: the same with zsh; fish: aiperf completion fish | source
    """
    print(render_completion(shell), end="")
    return 0


def _words() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]], frozenset[str]]:
    """Options by command, choices by option, and the options that take a file."""
    from aiperf.cli import available, profile, report

    commands = {name: () for name, c in available().items() if not c.is_alias}
    specs = {s.path: s for s in (*profile.options(), *report.options())}
    flags: dict[str, tuple[str, ...]] = dict(commands)
    for name, options in (("profile", profile.options()), ("report", report.options())):
        flags[name] = tuple(n for s in options for n in (*s.flag.names, *s.negatives[:1]) if n.startswith("--"))
    for name in commands:
        flags[name] = flags[name] or words_of(name)
    choices = {n: s.choices for s in specs.values() if s.kind == "choice" for n in s.flag.names}
    files = frozenset(n for s in specs.values() if s.kind in {"path", "paths"} for n in s.flag.names)
    return flags, choices | {"completion": ("bash", "zsh", "fish")}, files


def words_of(name: str) -> tuple[str, ...]:
    """Sub-commands of a command, and the options of all of them."""
    import importlib

    from aiperf.cli import available
    from aiperf.cli.command import Commands, options_of

    module, _, attribute = available()[name].target.partition(":")
    own = importlib.import_module(f"aiperf.cli.{module}")
    entry = getattr(own, attribute)
    if attribute == "run":
        return (*own.SUBCOMMANDS, *(n for s in own.options() for n in s.flag.names if n.startswith("--")))
    functions = [entry[n] for n in entry] if isinstance(entry, Commands) else [entry]
    flags = {n for function in functions for s in options_of(function) for n in s.flag.names if n.startswith("--")}
    return (*(entry if isinstance(entry, Commands) else ()), *sorted(flags))


def render_completion(shell: Shell) -> str:
    flags, choices, files = _words()
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](flags, choices, files)


_Flags = dict[str, tuple[str, ...]]


def _bash(flags: _Flags, choices: _Flags, files: frozenset[str]) -> str:
    cases = "\n".join(f'    {name}) words="{" ".join(words)}" ;;' for name, words in flags.items())
    values = "\n".join(
        f'    {flag}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")); return ;;'
        for flag, words in choices.items()
    )
    return f"""# bash completion for aiperf
_aiperf() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(flags)} --help --version" -- "$cur")); return
  fi
  case "$prev" in
{values}
    {"|".join(sorted(files))}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ "${{#COMPREPLY[@]}}" -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}}
complete -o filenames -F _aiperf aiperf
"""


def _zsh(flags: _Flags, choices: _Flags, files: frozenset[str]) -> str:
    return f"""# zsh completion for aiperf, by way of its bash form
autoload -Uz compinit bashcompinit
(( ${{+functions[compdef]}} )) || compinit
bashcompinit
{_bash(flags, choices, files)}"""


def _fish(flags: _Flags, choices: _Flags, files: frozenset[str]) -> str:
    from aiperf.cli import available

    lines = ["# fish completion for aiperf", "complete -c aiperf -f"]
    for name, command_ in available().items():
        if not command_.is_alias:
            lines.append(f'complete -c aiperf -n __fish_use_subcommand -a {name} -d "{command_.summary}"')
    for name, words in flags.items():
        seen = f'-n "__fish_seen_subcommand_from {name}"'
        for word in words:
            if not word.startswith("--"):
                lines.append(f"complete -c aiperf {seen} -a {word}")
                continue
            extra = f' -xa "{" ".join(choices[word])}"' if word in choices else " -rF" if word in files else ""
            lines.append(f"complete -c aiperf {seen} -l {word[2:]}{extra}")
    lines.append('complete -c aiperf -n "__fish_seen_subcommand_from report plot compare view trace" -F')
    lines.append('complete -c aiperf -n "__fish_seen_subcommand_from completion" -a "bash zsh fish"')
    return "\n".join(lines) + "\n"
