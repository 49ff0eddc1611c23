"""What one URL is asked, and what its answers mean."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiperf.config.url import Target
from aiperf.errors import Note, Problem, nearest
from aiperf.telemetry import UNKNOWN, Family, all_families, family_of_metrics
from aiperf.web import HttpResponse, NotHttpError, ProxyFailedError, Server

__all__ = ["ProbedUrl", "check", "error_text", "explain", "listed_ids", "listed_models"]

_WAIT = "`--wait-for-model-timeout 5m` waits until it is ready"
_NOT_READY = frozenset({502, 503, 504})
_MAX_LISTED = 8
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{.*\})? +[-+\d.einfaEINFA]+(?: |$)", re.MULTILINE)
"""A line of the exposition format: name, labels, value."""
_MODEL_WORDS = re.compile(
    r"\bmodel\b[^/]*\b(?:not exist|not found|not loaded|unknown)|\b(?:unknown|no|no such) model\b", re.IGNORECASE
)
"""What servers say of a name they do not know; a path with `model` in it is not meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedUrl:
    """Of one URL. `models`: as listed; empty if it lists none. Problems forbid the run, notes do not."""

    url: str
    family: Family = UNKNOWN
    models: tuple[str, ...] = ()
    metrics_url: str | None = None
    tokenize_url: str | None = None
    moved: str | None = None
    """Where the server redirects requests to, within the host: the whole URL; None if it does not."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = ()


class _Asker:
    """Asks until the deadline. A question without an answer is None, but for the first, whose error says why."""

    def __init__(self, server: Server, deadline: float) -> None:
        self.server = server
        self._deadline = deadline
        self.moved: set[str] = set()
        """Paths whose reply came from somewhere else within the host."""

    def first(self, path: str) -> HttpResponse:
        return self._ask("GET", path, None, "application/json")

    def get(self, path: str, accept: str = "application/json") -> HttpResponse | None:
        try:
            return self._ask("GET", path, None, accept)
        except OSError:
            return None

    def post_nothing(self, path: str) -> HttpResponse | None:
        try:
            return self._ask("POST", path, b"{}", "application/json")
        except OSError:
            return None

    def _ask(self, method: str, path: str, body: bytes | None, accept: str) -> HttpResponse:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        reply = self.server.ask(method, path, body, timeout_s=left, accept=accept)
        if (reply.origin, reply.path) != (self.server.base.origin, path):
            self.moved.add(path)
        return reply


def check(
    server: Server,
    target: Target,
    wanted: Sequence[str],
    deadline: float,
    *,
    has_key: bool,
    may_lack_http1: bool = False,
) -> ProbedUrl:
    """Everything about one URL, until `deadline` (time.monotonic). `wanted`: the models. `may_lack_http1`: it may be a server of
    HTTP/2 alone, which is not spoken through a proxy.
    """
    asker = _Asker(server, deadline)
    problems: list[Problem] = []
    notes: list[Note] = []
    listing_path = target.models_path
    try:
        listing = asker.first(listing_path)
    except OSError as error:
        if may_lack_http1 and _is_without_http1(error):
            text = f"`{server.url}` does not answer over HTTP/1.1: its model, path and kind were not checked"
            return ProbedUrl(url=server.url, notes=(Note("not_probed", text),))
        return ProbedUrl(url=server.url, problems=(explain(error, server.url),))
    refused = _refusal(server, listing_path, listing, has_key=has_key)
    problems += _path_problems(asker, target, has_key=has_key, refused=refused, notes=notes)
    if problems:
        return ProbedUrl(url=server.url, problems=tuple(problems))
    entries = _entries(listing) if listing.is_ok else []
    models = tuple(name for name, _ in entries)
    if not models and refused is None:
        notes.append(_unlisted(server, listing_path, listing))
    root = target.root
    metrics = _metrics_page(asker, root)
    family = _family(asker, listing, entries, metrics, root)
    wrong = [m for m in wanted if models and m not in models]
    for model in wrong:
        _judge_model(asker, family, listing_path, model, models, problems, notes)
    moved = _moved(asker, target)
    if moved is not None:
        text = f"`{target.base.at(target.request_path)}` redirects to `{moved}`: requests are sent there"
        notes.append(Note("redirected", text, {"url": server.url, "target": moved}))
    return ProbedUrl(
        url=server.url,
        family=family,
        models=models,
        metrics_url=metrics[0] if metrics is not None else None,
        tokenize_url=_tokenize_url(asker, family, root),
        moved=moved,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _unlisted(server: Server, path: str, reply: HttpResponse) -> Note:
    why = "lists none" if reply.is_ok else f"answers {error_text(reply)}"
    text = f"the name of the model could not be checked: `{server.base.at(path)}` {why}"
    return Note("models_unknown", text, {"url": server.url})


def _is_without_http1(error: OSError) -> bool:
    """What a server of HTTP/2 alone does to a question in HTTP/1.1."""
    if isinstance(error, ssl.SSLError):
        return "NO_APPLICATION_PROTOCOL" in (error.reason or "")
    return isinstance(error, NotHttpError | ConnectionResetError)


def listed_models(reply: HttpResponse) -> tuple[str, ...]:
    return tuple(name for name, _ in _entries(reply))


def listed_ids(reply: HttpResponse) -> tuple[str, ...]:
    """One name per model, without aliases."""
    ids = [row.get("id") for row in _rows(reply)]
    return tuple(dict.fromkeys(name for name in ids if isinstance(name, str) and name))


def _rows(reply: HttpResponse) -> list[dict[str, object]]:
    data = reply.json()
    rows = data.get("data") if isinstance(data, dict) else data
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _entries(reply: HttpResponse) -> list[tuple[str, str]]:
    """(name, owner) of `{"data": [{"id", "owned_by"}]}`; llama.cpp's aliases are names too."""
    out: list[tuple[str, str]] = []
    for row in _rows(reply):
        owner = str(row.get("owned_by") or "").lower()
        aliases = row.get("aliases")
        names = (row.get("id"), *(aliases if isinstance(aliases, list) else ()))
        out += [(name, owner) for name in names if isinstance(name, str) and name]
    return list(dict.fromkeys(out))


def explain(error: Exception, url: str) -> Problem:
    """Why a URL cannot be reached, and what to do."""
    if isinstance(error, ProxyFailedError):
        return Problem(str(error), error.source, "check the proxy; without `--proxy` the server is reached directly")
    wait = f"is it running? {_WAIT}; `aiperf sim` is a simulated server"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Problem(
            f"the certificate of `{url}` is not trusted: {error.verify_message}",
            hint="`--ca-file FILE` names the authority that signed it; `--insecure` verifies nothing",
        )
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "alert" in reason and ("certificate" in reason or "handshake failure" in reason or "unknown ca" in reason):
            return Problem(
                f"`{url}` requires a client certificate ({reason})",
                hint="`--client-cert FILE --client-key FILE`",
            )
        return Problem(f"`{url}` failed the TLS handshake: {reason}", hint="does it speak plain `http://`?")
    if isinstance(error, socket.gaierror):
        return Problem(f"cannot resolve the host name of `{url}`: {error.strerror}", hint="check the name in `--url`")
    if isinstance(error, ConnectionRefusedError):
        return Problem(f"connection refused by `{url}`", hint=wait)
    if isinstance(error, FileNotFoundError):
        return Problem(f"there is no socket `{url}`", hint=wait)
    if isinstance(error, TimeoutError):
        return Problem(
            f"`{url}` did not respond in time", hint=f"check host and port; {_WAIT}, `--no-probe` asks nothing"
        )
    if isinstance(error, NotHttpError | ConnectionError):
        what = error.strerror or str(error)
        scheme = "" if url.startswith(("https:", "unix:")) else "; does it expect `https://`?"
        return Problem(f"`{url}` does not speak HTTP: {what}", hint=f"check host and port{scheme}")
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return Problem(f"`{url}` cannot be reached: {text}", hint="check `--url`")


def _refusal(server: Server, path: str, reply: HttpResponse, *, has_key: bool) -> Problem | None:
    """401 and 403 are about the key."""
    if reply.status not in {401, 403}:
        return None
    place = f"HTTP {reply.status} on `{path}`{_said(reply)}"
    if has_key:
        return Problem(
            f"`{server.url}` rejected the API key: {place}", hint="check `--api-key`, AIPERF_API_KEY, `--header`"
        )
    return Problem(
        f"`{server.url}` requires an API key: {place}",
        hint="`--api-key KEY` or AIPERF_API_KEY; other ways by `--header NAME:VALUE`",
    )


def _said(reply: HttpResponse) -> str:
    """`: message` of an error body, cut; nothing if it has none."""
    data = reply.json()
    error = data.get("error", data) if isinstance(data, dict) else None
    message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    if not isinstance(message, str) or not message:
        return ""
    line = " ".join(message.split())
    return f": {line[:160]}{'…' if len(line) > 160 else ''}"


def _path_problems(
    asker: _Asker, target: Target, *, has_key: bool, refused: Problem | None, notes: list[Note]
) -> list[Problem]:
    """Whether the endpoint's path is there, by what it says to `GET`, then to `POST {}`."""
    server = asker.server
    full = path = target.request_path
    place = target.base.at(full)
    reply = asker.get(full)
    if reply is None:
        if refused is not None:
            return [refused]
        notes.append(Note("path_unchecked", f"`{server.url}` did not respond in time when asked for `{path}`"))
        return []
    # Status 404 is also what a server without routes for GET says; 200 with a page is a web site's answer to everything.
    is_page = reply.status == 200 and "html" in reply.headers.get("content-type", "")
    is_posted = False
    if reply.status == 404 or is_page or (refused is not None and reply.status not in {401, 403}):
        posted = asker.post_nothing(full)
        is_posted, reply = posted is not None, posted or reply
    if reply.status in {401, 403}:
        return [_refusal(server, full, reply, has_key=has_key) or Problem(f"HTTP {reply.status}")]
    if refused is not None:
        if reply.status not in {400, 422}:
            return [refused]
        notes.append(Note("models_refused", f"{refused.message}; its models are not known"))
    if 300 <= reply.status < 400:
        there = reply.headers.get("location", "another place")
        return [Problem(f"`{place}` redirects to `{there}`", hint="give that address with `--url`")]
    if reply.status in _NOT_READY:
        return [Problem(f"`{server.url}` is not ready: HTTP {reply.status} on `{path}`{_said(reply)}", hint=_WAIT)]
    is_wrong = reply.status == 405 and (is_posted or "POST" not in reply.headers.get("allow", "POST").upper())
    if is_wrong or (reply.status == 404 and not _is_about_model(reply)):
        return [_no_path(asker, target, reply)]
    return []


def _moved(asker: _Asker, target: Target) -> str | None:
    """Where a `POST` to the endpoint ends up, if the server sends it on with 307 or 308."""
    if target.request_path not in asker.moved:
        return None
    here = (target.base.origin, target.request_path)
    posted = asker.post_nothing(target.request_path)
    return None if posted is None or (posted.origin, posted.path) == here else posted.origin + posted.path


def _is_about_model(reply: HttpResponse) -> bool:
    """A 404 of the API itself, about a model: then the path is there."""
    data = reply.json()
    error = data.get("error", data) if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return False
    if error.get("code") == "model_not_found":
        return True
    return _MODEL_WORDS.search(str(error.get("message") or "")) is not None


def _no_path(asker: _Asker, target: Target, reply: HttpResponse) -> Problem:
    hint = "`--custom-endpoint PATH` sets another one"
    others = []
    for kind, other in (("chat", "/v1/chat/completions"), ("completions", "/v1/completions")):
        full = target.at_root(other)
        answer = asker.get(full) if full != target.request_path else None
        if answer is not None and answer.status in {400, 405, 422}:
            others.append(f"`{full}` (`--endpoint-type {kind}`)")
    if others:
        hint = f"it has {' and '.join(others)}; {hint}"
    place = f"`{target.base.origin}` has no path `{target.request_path}`"
    return Problem(f"{place} (HTTP {reply.status}{_said(reply)})", hint=hint)


def _metrics_page(asker: _Asker, root: str) -> tuple[str, set[str]] | None:
    """URL of the Prometheus page and the names on it; TensorRT-LLM's `/metrics` is JSON and the page elsewhere."""
    server = asker.server
    for path in dict.fromkeys((f"{root}/metrics", f"{root}/prometheus/metrics", "/metrics")):
        reply = asker.get(path, "text/plain;version=0.0.4")
        if reply is None or not reply.is_ok or "html" in reply.headers.get("content-type", ""):
            continue
        names = {m[1] for m in _SAMPLE.finditer(reply.text)}
        if names:
            return server.base.at(path), names
    return None


def _family(
    asker: _Asker,
    listing: HttpResponse,
    entries: list[tuple[str, str]],
    metrics: tuple[str, set[str]] | None,
    root: str,
) -> Family:
    owners = {owner for _, owner in entries}
    software = listing.headers.get("server", "").lower()
    known = all_families().values()
    for family in known:
        if owners & set(family.owners) or any(word in software for word in family.servers):
            return family
    if metrics is not None:
        family = family_of_metrics(metrics[1])
        if family is not UNKNOWN:
            return family
    for family in known:
        if family.identity is not None:
            reply = asker.get(f"{root}{family.identity[0]}")
            data = reply.json() if reply is not None and reply.is_ok else None
            if isinstance(data, dict) and family.identity[1] in data:
                return family
    return UNKNOWN


def _judge_model(
    asker: _Asker,
    family: Family,
    listing_path: str,
    model: str,
    models: tuple[str, ...],
    problems: list[Problem],
    notes: list[Note],
) -> None:
    """A name that is not listed: the server's own word on it (`GET /v1/models/NAME`) counts, then what its family is like."""
    from urllib.parse import quote

    url = asker.server.url
    reply = asker.get(f"{listing_path}/{quote(model, safe='/')}")
    if reply is not None and reply.is_ok and _names(reply, model):
        return
    listed = ", ".join(f"`{m}`" for m in models[:_MAX_LISTED]) + (
        f" and {len(models) - _MAX_LISTED} more" if len(models) > _MAX_LISTED else ""
    )
    is_denied = reply is not None and reply.status == 404 and _is_about_model(reply)
    near = _nearest(model, models)
    did = f"did you mean `{near}`? " if near is not None else ""
    if (family.any_model or family is UNKNOWN) and not is_denied:
        # Gateways, routers and deployments of clouds list other names than they serve.
        what = (
            f"{family.title} accepts any model name"
            if family.any_model
            else f"{did}requests are sent with it all the same"
        )
        text = f"`{url}` lists {listed}, not `{model}`; {what}"
        notes.append(Note("model_not_listed", text, {"url": url, "model": model, "models": list(models)}))
        return
    problems.append(Problem(f"`{url}` has no model `{model}`", hint=f"{did}it lists {listed}"))


def _names(reply: HttpResponse, model: str) -> bool:
    data = reply.json()
    return isinstance(data, dict) and data.get("id") == model


def _nearest(model: str, models: Sequence[str]) -> str | None:
    """By the whole name, then by its last part, without regard to case."""
    whole = {m.lower(): m for m in models}
    last = {m.lower().rsplit("/", 1)[-1]: m for m in models}
    for known, word in ((whole, model.lower()), (last, model.lower().rsplit("/", 1)[-1])):
        found = nearest(word, known)
        if found is not None:
            return known[found]
    return None


def _tokenize_url(asker: _Asker, family: Family, root: str) -> str | None:
    path = f"{root}/tokenize"
    if family.servers:  # a server without routes for other methods: GET says nothing
        return asker.server.base.at(path) if family.has_tokenize else None
    reply = asker.get(path)
    exists = reply is not None and reply.status in {400, 405, 422}
    return asker.server.base.at(path) if exists else None


def error_text(reply: HttpResponse) -> str:
    """Status and message of a reply, for people."""
    return f"HTTP {reply.status}{_said(reply)}"
