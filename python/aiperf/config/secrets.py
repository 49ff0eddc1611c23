"""Keys and tokens never leave the process in text: masks for headers and command lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiperf.config.flag import normalise_key

__all__ = ["MASK", "is_secret_name", "mask_argv", "mask_authority", "mask_headers", "mask_mapping", "mask_url"]

MASK = "**********"
"""As pydantic's SecretStr shows itself."""

_WORDS = ("authorization", "api-key", "apikey", "token", "cookie", "secret", "password", "credential", "signature")


def is_secret_name(name: str) -> bool:
    """True for headers and body fields whose value is a secret by their name: `authorization`, `x-api-key`, `cookie`, …

    Counts of tokens (`max_tokens`) are not: the word must stand at the end, and not in the plural.
    """
    word = name.strip().lower().replace("_", "-")
    return any(word == w or word.endswith("-" + w) for w in _WORDS) or word in {"set-cookie", "key", "bearer"}


def mask_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, MASK if is_secret_name(name) else value) for name, value in headers)


def mask_mapping(values: Mapping[str, object]) -> dict[str, object]:
    """A copy with secret values masked, at any depth of mappings."""
    return {
        k: MASK if is_secret_name(k) else mask_mapping(v) if isinstance(v, Mapping) else v for k, v in values.items()
    }


def mask_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line without the API key and secret headers; user information in URLs goes too."""
    masked: list[str] = []
    previous = ""
    for word in argv:
        flag, equals, value = word.partition("=")
        name = normalise_key(flag) if word.startswith("-") else ""
        if name in {"api_key", "header", "h", "proxy"} and equals and flag.startswith("-"):
            masked.append(f"{flag}={_mask_value(name, value)}")
        elif previous in {"api_key", "header", "h", "proxy"} and not word.startswith("--"):
            masked.append(_mask_value(previous, word))
            if previous in {"header", "h"}:
                continue  # more headers may follow
        else:
            masked.append(mask_url(word))
        previous = name if word.startswith("-") and not equals else ""
    return tuple(masked)


def _mask_value(name: str, value: str) -> str:
    if name == "api_key":
        return MASK
    if name == "proxy":
        return mask_authority(value)
    if value.lstrip().startswith("{"):
        return MASK
    header, colon, rest = value.partition(":")
    return f"{header}:{MASK}" if colon and is_secret_name(header) else mask_url(f"{header}{colon}{rest}")


def mask_url(word: str) -> str:
    """A URL without its user information."""
    scheme, sep, rest = word.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}{sep}{MASK}@{host}{slash}{path}" if sep and at and user else word


def mask_authority(word: str) -> str:
    """A URL without its user information, also where the scheme is left out: `user:password@host:port`."""
    return mask_url(word) if "://" in word else mask_url(f"://{word}").removeprefix("://")
