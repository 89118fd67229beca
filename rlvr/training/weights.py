"""Where the weights of a run's base model come from: a folder, a pinned revision of a model hub, or a GGUF file."""

from omegaconf import DictConfig

from rlvr.cli import ConfigError
from rlvr.data import gguf
from rlvr.runs.folder import RunFolder


def local_path(cfg: DictConfig, folder: RunFolder) -> str:
    """The path that verl loads: `base_model.path`, or the folder that it is converted or downloaded to. The phase goes to `folder`."""
    path, revision = cfg.base_model.path, cfg.base_model.revision
    if gguf.is_gguf(path):
        folder.phase_path.write_text("converting the GGUF weights")
        return gguf.local_folder(path)
    if revision is None:
        return path
    folder.phase_path.write_text("fetching the base model")
    return pinned(path, revision)


def pinned(path: str, revision: str) -> str:
    """The folder of a hub's model at that revision, downloaded once; verl itself would take the newest revision."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(path, revision=revision)
    except Exception as error:  # huggingface_hub raises its own and its HTTP library's errors
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"base_model.revision={revision}: {path} cannot be downloaded at this revision ({reason}); "
            "give a network, or base_model.path=<folder> base_model.revision=null"
        ) from None
