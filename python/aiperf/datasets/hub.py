"""Files of datasets on the Hugging Face hub: the local cache first, without network; then a download."""

from __future__ import annotations

from pathlib import Path

from aiperf.errors import DatasetError
from aiperf.web.hub import ask_for_dataset, ask_for_file

__all__ = ["download", "parquet_files"]

_LIMIT_S = 5.0
"""For the hub's first answer. A dataset that was asked for has no fall-back, so there is time for a slow network."""

_CONVERTED = "refs/convert/parquet"
"""Branch in which the hub keeps every dataset as Parquet: `<subset>/<split>/*.parquet`."""


def download(repository: str, file: str) -> Path:
    """DatasetError if the file is in neither cache nor hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, repo_type="dataset")
    if isinstance(found, str):
        return Path(found)
    try:
        ask_for_file(repository, file, None, "dataset", _LIMIT_S)
        return Path(str(hf_hub_download(repository, file, repo_type="dataset", etag_timeout=5)))
    except Exception as error:  # TimeoutError, and those of the HTTP library, by its version
        raise _unreachable(repository, error) from error


def parquet_files(repository: str, subset: str | None, split: str) -> list[Path]:
    """The Parquet files of a split, sorted. DatasetError if there are none or the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    def pattern(name: str) -> str:
        return f"{name}/{split}/*.parquet"

    patterns = [pattern(subset or "default"), *([] if subset else [f"*/{split}/*.parquet"])]
    for local in (True, False):
        try:
            if not local:
                ask_for_dataset(repository, _CONVERTED, _LIMIT_S)
            folder = Path(
                snapshot_download(
                    repository,
                    repo_type="dataset",
                    revision=_CONVERTED,
                    allow_patterns=patterns,
                    local_files_only=local,
                    etag_timeout=5,
                )
            )
        except Exception as error:  # httpx, requests and OS errors, by version of the library
            if local:
                continue
            raise _unreachable(repository, error) from error
        for wanted in patterns:
            files = sorted(folder.glob(wanted))
            if files and len({f.parent.parent for f in files}) > 1:
                names = ", ".join(f"`{n}`" for n in sorted({f.parent.parent.name for f in files})[:8])
                raise DatasetError(
                    f"`{repository}` has several configurations: {names}", "choose one with `--hf-subset`"
                )
            if files:
                return files
    raise DatasetError(
        f"`{repository}` has no split `{split}`" + (f" in `{subset}`" if subset else ""),
        "choose with `--hf-subset` and `--hf-split`",
    )


def _unreachable(repository: str, error: Exception) -> DatasetError:
    hint = "check the name and the network, set `HF_TOKEN` if it is gated, or give a local file with `--input-file`"
    name = type(error).__name__
    if name == "RepositoryNotFoundError":
        return DatasetError(f"there is no dataset `{repository}` on the Hugging Face hub", hint)
    if name == "EntryNotFoundError":
        return DatasetError(f"the dataset `{repository}` lacks the file on the Hugging Face hub", hint)
    return DatasetError(
        f"the dataset `{repository}` is not in the local Hugging Face cache, and the hub cannot be reached ({name})",
        hint,
    )
