"""How long names live in Rust: which lines lie between the place that binds a name and the last one that uses it.

Reads tokens, not types: enough for `let`, `for`, `match`, `if let`, closures and arguments, and for names in format strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Life", "lives"]

_TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|/\*.*?\*/|\s+)
    |(?P<text>b?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*")
    |(?P<character>b?'(?:\\(?:u\{\w+\}|x\w\w|.)|[^'\\])')
    |(?P<lifetime>'\w+)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<number>\d[\w.]*?(?=\.\.|[^\w.]|\.[A-Za-z_]))
    |(?P<sign>::|=>|->|\.\.=?|==|!=|<=|>=|&&|\|\||.)""",
    re.DOTALL | re.VERBOSE,
)
_SHORT = re.compile(r"_?[a-z]|found")
_IN_TEXT = re.compile(r"(?<!\{)\{(_?[a-z]|found)[:}]")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
# Before a bar that begins a closure, and not an "or".
_BEFORE_CLOSURE = frozenset({"(", ",", "=", "=>", "{", ";", "[", "&", "&&", "move", "return", "else", ":", "}", "in"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


@dataclass(slots=True)
class Life:
    """`first`, `last`: lines on which the name stands."""

    name: str
    first: int
    last: int


@dataclass(slots=True)
class _Scope:
    """`closes_at`: depth of brackets at which it ends; `by_comma`: also at a comma there. `is_match`: its commas divide arms."""

    closes_at: int
    by_comma: bool = False
    is_match: bool = False
    lives: dict[str, Life] = field(default_factory=dict)


def _tokens(text: str) -> list[_Token]:
    tokens, line = [], 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "text"
        if match["skip"] is None:
            tokens.append(_Token("text" if match["text"] is not None else kind, match[0], line))
        line += match[0].count("\n")
    return tokens


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = self.depth = 0
        self.scopes = [_Scope(-1)]
        self.ended: list[Life] = []
        # What the next block binds, and the depth of brackets at which that opens; whether it is one of arms.
        self.pending: list[tuple[int, Life]] = []
        self.matches: list[int] = []

    def text(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def read(self) -> list[Life]:
        while self.at < len(self.tokens):
            self._step(self.tokens[self.at])
        while self.scopes:
            self._close()
        return self.ended

    def _step(self, token: _Token) -> None:
        self.at += 1
        if token.kind == "text":
            for name in _IN_TEXT.findall(token.text):
                self._use(name, token.line)
        elif token.text in _OPENING:
            self._open(token)
        elif token.text in _CLOSING:
            self.depth -= 1
            while self.scopes[-1].closes_at > self.depth:
                self._close()
            self._end_arm(token.text == "}")
        elif token.text in {",", ";"}:
            while self.scopes[-1].by_comma and self.scopes[-1].closes_at == self.depth:
                self._close()
            self._begin_arm()
        elif token.text == "fn":
            self._arguments()
        elif token.text == "let":
            self._let()
        elif token.text == "for" and self.text() != "<" and self.text(-2) not in {">", ")"} and self._is_loop():
            self.pending += [(self.depth, life) for life in self._pattern({"in"})]
        elif token.text == "match" and self.text(-2) != ".":
            self.matches.append(self.depth)
        elif token.text in {"|", "||"} and self.text(-2) in _BEFORE_CLOSURE:
            self._closure(token)
        elif token.kind == "word" and _SHORT.fullmatch(token.text) and self._is_name():
            self._use(token.text, token.line)

    def _is_loop(self) -> bool:
        """Not `impl A for B`."""
        ahead = (self.text(i) for i in range(40))
        return next((word for word in ahead if word in {"in", "{", ";"}), "") == "in"

    def _is_name(self) -> bool:
        """The word just passed is not a field, a path or a key."""
        return self.text(-2) not in {".", "::", "fn"} and self.text() not in {"::", "!"} and self.text() != ":"

    def _use(self, name: str, line: int) -> None:
        for scope in reversed(self.scopes):
            if name in scope.lives:
                scope.lives[name].last = max(scope.lives[name].last, line)
                return

    def _bind(self, scope: _Scope, life: Life) -> None:
        before = scope.lives.get(life.name)
        if before is not None and before is not life:
            self.ended.append(before)
        scope.lives[life.name] = life

    def _open(self, token: _Token) -> None:
        self.depth += 1
        if token.text != "{":
            return
        scope = _Scope(self.depth)
        if self.matches and self.matches[-1] == self.depth - 1:
            self.matches.pop()
            scope.is_match = True
        mine = [life for depth, life in self.pending if depth == self.depth - 1]
        self.pending = [entry for entry in self.pending if entry[0] != self.depth - 1]
        for life in mine:
            self._bind(scope, life)
        self.scopes.append(scope)
        self._begin_arm()

    def _close(self) -> None:
        self.ended += self.scopes.pop().lives.values()

    def _begin_arm(self) -> None:
        scope = self.scopes[-1]
        if scope.is_match and scope.closes_at == self.depth and self.text() != "}":
            arm = _Scope(self.depth, by_comma=True)
            self.scopes.append(arm)
            for life in self._pattern({"=>", "if"}):
                self._bind(arm, life)

    def _end_arm(self, is_block: bool) -> None:
        """An arm that is a block needs no comma behind it."""
        scope = self.scopes[-1]
        is_arm = scope.by_comma and scope.closes_at == self.depth and self.scopes[-2].is_match
        if is_block and is_arm and self.text() not in {",", ".", "?", ")", "as"} and self._is_arms_block():
            self._close()
            self._begin_arm()

    def _is_arms_block(self) -> bool:
        """Does the block that has just ended follow `=>`?"""
        depth, at = 0, self.at - 1
        while at >= 0:
            depth += self.tokens[at].text in _CLOSING
            depth -= self.tokens[at].text in _OPENING
            if depth == 0:
                return self.tokens[at - 1].text == "=>"
            at -= 1
        return False

    def _let(self) -> None:
        is_condition = self.text(-2) in {"if", "while", "&&"}
        for life in self._pattern({"=", ";"}):
            if is_condition:
                self.pending.append((self.depth, life))
            else:
                self._bind(self.scopes[-1], life)

    def _arguments(self) -> None:
        """Of a function; they live in its body."""
        while self.text() not in {"(", ""}:
            self.at += 1
        self.at += 1
        self.pending = [entry for entry in self.pending if entry[0] != self.depth]
        self.pending += [(self.depth, life) for life in self._pattern({")"})]
        self.at += 1
        self._skip_to({"{", ";"})
        if self.text() == ";":
            self.pending = [entry for entry in self.pending if entry[0] != self.depth]

    def _skip_to(self, ends: set[str]) -> None:
        """The end of a type: the first of `ends` outside brackets."""
        depth = 0
        while self.text() and (depth > 0 or self.text() not in ends):
            depth += (self.text() in _OPENING) - (self.text() in _CLOSING)
            self.at += 1

    def _closure(self, token: _Token) -> None:
        lives = self._pattern({"|"}) if token.text == "|" else []
        self.at += token.text == "|"
        if self.text() == "->":
            self._skip_to({"{"})
        scope = _Scope(self.depth, by_comma=True)
        for life in lives:
            self._bind(scope, life)
        self.scopes.append(scope)

    def _pattern(self, ends: set[str]) -> list[Life]:
        """Names bound by what comes, up to one of `ends` outside brackets, which is left to be read. Types are passed over."""
        lives: dict[str, Life] = {}
        depth, in_type, angles = 0, False, 0
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if depth == 0 and angles <= 0 and token.text in ends:
                break
            depth += (token.text in _OPENING) - (token.text in _CLOSING)
            if depth < 0:
                break
            if in_type:
                angles += (token.text == "<") - (token.text == ">")
            if depth == 0 and token.text == "," and angles <= 0:
                in_type = False
            elif depth == 0 and token.text == ":":
                in_type, angles = True, 0
            elif not in_type and _SHORT.fullmatch(token.text) and token.kind == "word":
                is_key = self.text(1) == ":" and depth > 0
                if self.text(-1) not in {".", "::"} and self.text(1) not in {"::", "(", "!", "{"} and not is_key:
                    lives.setdefault(token.text, Life(token.text, token.line, token.line)).last = token.line
            self.at += 1
        return list(lives.values())


def lives(text: str) -> Iterator[Life]:
    """Every short name (a letter, `_` and a letter, `found`) that the text of a Rust file binds."""
    yield from _Reader(text).read()
