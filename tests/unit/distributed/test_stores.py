"""Where records are handed over: whole objects that are taken once, and places that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiperf.config.distribution import bad_store
from aiperf.config.resolve import config_from
from aiperf.distributed.stores import StoreError, open_store
from aiperf.errors import ConfigError


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_an_object_of_a_folder_is_taken_once(tmp_path: Path, prefix: str) -> None:
    store = open_store(f"{prefix}{tmp_path}")
    store.put("run/0", b"records")
    assert store.take("run/0") == b"records"
    with pytest.raises(StoreError, match="No such file"):
        store.take("run/0")


def test_a_closed_folder_leaves_nothing_and_touches_no_other(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("mine/0", b"x")
    store.put("other/0", b"y")
    store.close("mine")
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
    store.close("other")
    assert tmp_path.is_dir()


def test_a_place_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/run/0`: Not a directory"):
        open_store(str(tmp_path / "file")).put("run/0", b"x")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("records", "is not an absolute path"),
        ("file://host/path", "is not an absolute path"),
        ("ftp://host/x", "is neither a folder nor a bucket"),
        ("s3:///x", "names no bucket"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything(where: str, text: str) -> None:
    assert text in (bad_store(where) or "")
    with pytest.raises(ConfigError, match=text):
        config_from(model="m", url="localhost:1", request_count=1, concurrency=1, generators=2, record_store=where)


@pytest.mark.parametrize("where", ["/mnt/x", "file:///mnt/x", "s3://bucket", "gs://bucket/prefix", "az://container/x"])
def test_places_that_may_be(where: str) -> None:
    assert bad_store(where) is None
