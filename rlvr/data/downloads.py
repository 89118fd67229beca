"""Where real data comes from: a local folder (`data_root`), else a download that is pinned and checked.

`data_root` may be a clone of the authors' repository, its folder `data/`, or a folder with `train/`, `eval/` and `arc/`.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlvr.cli import DataError

AUTHORS = "https://raw.githubusercontent.com/ypwang61/One-Shot-RLVR/21ed529ec90002597c92aee957af1dd8166bb66c/"
TIMEOUT_S = 60
# name in data_root -> (place in the authors' repository, SHA-256)
AUTHORS_FILES = {
    "train/dsr_sub.parquet": (
        "data/train/one_shot_rlvr/dsr_sub.parquet",
        "bce5945e5666d5b82f1554b0a18203a88a0209f82fa724e5bfdfc17cc9a1aea6",
    ),
    "train/acc_step_500.json": (
        "data/acc_step_500.json",
        "c34cd885edc77dc9494b0ababa239483799be5978e288e0181047f139f2efd34",
    ),
}
AUTHORS_FILES |= {
    f"eval/{name}.jsonl": (f"Qwen2.5-Eval/evaluation/data/{name}/test.jsonl", sha256)
    for name, sha256 in {
        "math500": "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        "aime24": "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
        "aime25": "4613b7d3b5346f007625969f4380d932d6a2618fdcc9b89e5d39c7fbddc074b8",
        "amc23": "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4",
        "minerva_math": "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2",
        "olympiadbench": "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416",
    }.items()
}


class NotAtHand(DataError):
    """Data is not on disk, and downloads are off (`without_downloads`)."""


_downloads = True


@contextmanager
def without_downloads() -> Iterator[None]:
    """In this `with` block every download raises NotAtHand, so that a plan is checked with the data on disk."""
    global _downloads
    _downloads = False
    try:
        yield
    finally:
        _downloads = True


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/one-shot-rlvr: what is downloaded or converted once, for all runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "one-shot-rlvr"


def data_file(data_root: str | None, name: str) -> Path:
    """A file by its name below `data_root`. Without a `data_root`, a file of the authors is downloaded once and checked.

    Downloads are kept in $XDG_CACHE_HOME/one-shot-rlvr. DataError with the remedy when the file is not there, cannot be
    downloaded or is not what was published.
    """
    theirs = AUTHORS_FILES.get(name)
    if data_root is not None:
        root = Path(data_root).expanduser()
        places = [root / name]
        if theirs is not None:
            places += [root / theirs[0], root / theirs[0].removeprefix("data/"), root.parent / theirs[0]]
        for path in places:
            if path.exists():
                return path
        raise DataError(f"data_root={data_root}: has no {name}")
    if theirs is None:
        raise DataError(f"{name} is needed: give the folder that holds it, data_root=<folder>")
    path = cache_folder() / name
    if not path.exists():
        if not _downloads:
            raise NotAtHand(f"{name} is downloaded when the run starts")
        _download(AUTHORS + theirs[0], theirs[1], path)
    return path


def _download(url: str, sha256: str, path: Path) -> None:
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
            content = response.read()
    except OSError as error:
        raise DataError(
            f"{url}: cannot be downloaded ({error}); clone the authors' repository and give data_root=<clone>"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"{url}: SHA-256 is {found}, expected {sha256}: not the published file, so not used")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def hub_rows(repository: str, config: str | None, split: str, revision: str) -> list[dict]:
    """All rows of a Hugging Face data set's split at a revision, from the hub's local cache if they are there.

    DataError if the hub cannot be reached; NotAtHand if downloads are off and the cache lacks the data.
    """
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision, local_files_only=not _downloads)
        return load_dataset(folder, config, split=split).to_list()
    except Exception as error:  # datasets and huggingface_hub raise their own and their HTTP library's errors
        if not _downloads:
            raise NotAtHand(f"Hugging Face data set {repository} is downloaded when the run starts") from None
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"Hugging Face data set {repository}: cannot be loaded ({type(error).__name__}: {reason}); "
            "give a local copy, data_root=<folder>"
        ) from None
