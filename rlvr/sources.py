"""Where real data comes from: a local folder (`data_root`), else a download that is pinned and checked.

`data_root` may be laid out as the folder `data/` of the authors' repository, or with `train/`, `eval/` and `arc/`.
"""

import hashlib
import os
from pathlib import Path

from rlvr.config import ConfigError

AUTHORS = (
    "https://raw.githubusercontent.com/ypwang61/One-Shot-RLVR/21ed529ec90002597c92aee957af1dd8166bb66c/data/"
)
TIMEOUT_S = 60
# name in data_root -> (place in the authors' data folder, SHA-256)
AUTHORS_FILES = {
    "train/dsr_sub.parquet": (
        "train/one_shot_rlvr/dsr_sub.parquet",
        "bce5945e5666d5b82f1554b0a18203a88a0209f82fa724e5bfdfc17cc9a1aea6",
    ),
    "train/acc_step_500.json": (
        "acc_step_500.json",
        "c34cd885edc77dc9494b0ababa239483799be5978e288e0181047f139f2efd34",
    ),
}


class DataError(ConfigError):
    """Data that is not there or does not fit; one line with the remedy."""


def data_file(data_root: str | None, name: str) -> Path:
    """A file by its name below `data_root`; without one, a file of the authors is downloaded once and checked.

    DataError with the remedy when it is not there, cannot be downloaded or is not what was published.
    """
    theirs = AUTHORS_FILES.get(name)
    if data_root is not None:
        places = [Path(data_root) / name, *([Path(data_root) / theirs[0]] if theirs else [])]
        for path in places:
            if path.exists():
                return path
        raise DataError(f"data_root={data_root}: has no {name}")
    if theirs is None:
        raise DataError(f"{name} is needed: give the folder that holds it, data_root=<folder>")
    path = cache_dir() / name
    if not path.exists():
        _download(AUTHORS + theirs[0], theirs[1], path)
    return path


def cache_dir() -> Path:
    """Downloads are kept in $XDG_CACHE_HOME/one-shot-rlvr."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "one-shot-rlvr"


def _download(url: str, sha256: str, path: Path) -> None:
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
            content = response.read()
    except OSError as error:
        raise DataError(
            f"{url}: cannot be downloaded ({error}); clone the authors' repository and give data_root=<clone>/data"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"{url}: SHA-256 is {found}, expected {sha256}: not the published file, so not used")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def hub_rows(repository: str, split: str) -> list[dict]:
    """All rows of a Hugging Face data set's split. DataError when the hub cannot be reached."""
    from datasets import load_dataset

    try:
        return load_dataset(repository, split=split).to_list()
    except Exception as error:  # datasets raises its own, requests' and huggingface_hub's errors
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"Hugging Face data set {repository}: cannot be loaded ({type(error).__name__}: {reason}); "
            "give a local copy, data_root=<folder>"
        ) from None
