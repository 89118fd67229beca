"""Composes `conf/` with verl's own configuration. The one module of `rlvr` that imports hydra, for command-line programs.

`run.py` calls `prepare()` before `hydra.main`; other programs and the tests call `compose(...)`.
"""

import json
import re
from collections.abc import Iterable
from contextlib import nullcontext
from difflib import get_close_matches
from functools import cache
from math import prod
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from rlvr.cli import ConfigError
from rlvr.config.resolvers import register_resolvers
from rlvr.config.schema import CONF, group_options, leaves, unknown_key_message, verl_config
from rlvr.data import gguf
from rlvr.runs.free_text import as_written, for_hydra, in_quotes, protected
from rlvr.runs.naming import science

# Users write these on the command line without Hydra's quotes: a question and an answer, a label, and every path.
FREE_TEXT = ("example.question", "example.answer", "label.text")
PATHS = ("runs_dir", "data_root", "base_model.path", "pool.ranking")


@cache
def own_base_model(model: str) -> str:
    """Register a folder, a GGUF file or a Hugging Face id as a choice of group `base_model`; returns its name.

    The context length is read from config.json or the GGUF header. Prompts use the tokenizer's chat template, or `none` if it has
    none. ConfigError when the model cannot be read.
    """
    if gguf.is_gguf(model):
        path = str(gguf.located(model))
        found = gguf.described(Path(path))
        return _written(path, found["chat"], found["context_tokens"], found["architecture"])
    folder = Path(model).expanduser()
    local = folder.is_dir()

    def content(file: str) -> str | None:
        if local:
            return (folder / file).read_text() if (folder / file).exists() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(model, file)).read_text()
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None

    if not local and (model.startswith((".", "/", "~")) or model.count("/") != 1):
        raise ConfigError(
            f"base_model={model}: no such folder; give one, a Hugging Face id, or a choice of conf/base_model"
        )
    try:
        config = json.loads(content("config.json") or "null")
        chat = content("chat_template.jinja") or "chat_template" in (content("tokenizer_config.json") or "")
    except Exception as error:  # huggingface_hub raises its own and its HTTP library's errors
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"base_model={model}: cannot be read ({reason}); give a folder, or an id and a network"
        ) from None
    if not config or "max_position_embeddings" not in config:
        raise ConfigError(
            f"base_model={model}: has no config.json with max_position_embeddings: not a causal language model?"
        )
    return _written(str(folder.resolve()) if local else model, bool(chat), config["max_position_embeddings"], None)


def _written(path: str, chat: bool, context_tokens: int, architecture: dict | None) -> str:
    """Register a choice of `base_model` for this process; returns its name."""
    name = re.sub(r"\W+", "_", Path(path).name.removesuffix(gguf.SUFFIX).lower()).strip("_")
    if name in group_options("base_model"):
        name = f"own_{name}"
    main = OmegaConf.load(
        CONF / "base_model" / "qwen2_5_math_1_5b.yaml"
    )  # the paper's: what scale=paper takes for the others
    written = {"name": name, "path": path, "revision": None, "template": "chat" if chat else "none",
               "context_tokens": context_tokens, "architecture": architecture,
               "paper_steps": main.paper_steps, "paper_response_tokens": main.paper_response_tokens}  # fmt: skip
    ConfigStore.instance().store(name, written, group="base_model")
    return name


@cache
def prepare() -> None:
    """Registers verl's configuration with Hydra and our resolvers with OmegaConf."""
    ConfigStore.instance().store("verl_ppo_trainer", verl_config())
    register_resolvers()


def quoted(argument: str) -> str:
    """A command-line argument with its free text or path in quotes: commas and braces mean something in Hydra's grammar.

    `~` is the home folder. Paths separated by commas are a sweep if each of them exists. A path may hold an interpolation; in a
    text, `${` is text.
    """
    key, equals, value = argument.partition("=")
    if key == "base_model" and ("/" in value or value.startswith("~") or value.endswith(gguf.SUFFIX)):
        return f"{key}={','.join(own_base_model(model) for model in value.split(','))}"
    name = key.lstrip("+")
    is_path = name in PATHS or name.endswith((".file", ".grader"))
    if not equals or value in ("", "null"):
        return argument
    if name in FREE_TEXT:
        return f"{key}={for_hydra(value)}"
    if not is_path or value[0] in "'\"" or "${" in value:
        return argument
    parts = value.split(",")
    if len(parts) > 1 and not Path(value).exists() and all(Path(part).expanduser().exists() for part in parts):
        return argument
    return f"{key}={in_quotes(str(Path(value).expanduser()) if value.startswith('~') else value)}"


def runs_asked(arguments: Iterable[str]) -> int:
    """How many runs a command line of `run.py -m` asks for."""
    given = [argument for argument in arguments if not argument.startswith("-")]
    sweeps = [o for o in OverridesParser.create().parse_overrides(given) if o.is_sweep_override()]
    return prod(sum(1 for _ in one.sweep_iterator()) for one in sweeps)


def compose(*overrides: str, conf: Path = CONF) -> DictConfig:
    """The configuration that `python run.py OVERRIDES` runs with, unchecked and with its interpolations."""
    prepare()
    inside = GlobalHydra.instance().is_initialized()  # within hydra.main, its search path serves
    with nullcontext() if inside else hydra.initialize_config_dir(str(conf), version_base="1.3"):
        cfg = hydra.compose("config", [quoted(override) for override in overrides], return_hydra_config=True)
    OmegaConf.set_struct(cfg, False)
    chosen = cfg.pop("hydra")
    cfg.experiment_name, cfg.overrides = (
        chosen.runtime.choices.get("experiment"),
        protected(science(chosen.overrides.task)),
    )
    OmegaConf.set_struct(cfg, True)
    protect_examples(cfg)
    return cfg


def protect_examples(cfg: DictConfig) -> None:
    """Keep `${` in questions and answers of the files in conf/ as text, not as an interpolation."""
    for group, keys in ((cfg.example, ("question", "answer")), (cfg.train_set, ("examples",))):
        raw = as_written(OmegaConf.to_container(group, resolve=False))
        group.update({key: protected(raw[key]) for key in keys})


def check_restated(cfg: DictConfig) -> None:
    """ConfigError if the experiment's file sets a key to the value that it has anyway at this scale."""
    path = CONF / "experiment" / f"{cfg.experiment_name}.yaml"
    if not path.exists():  # an experiment of the user's own config folder
        return
    where = f"experiment {cfg.experiment_name}"
    file = OmegaConf.load(path)
    base = _base(cfg.scale.name, cfg.base_model.name)
    chosen = {
        group: name
        for d in OmegaConf.load(CONF / "config.yaml").defaults
        if isinstance(d, DictConfig)
        for group, name in d.items()
    }
    for default in file.pop("defaults", []):
        for group, choice in default.items():
            group = group.removeprefix("override /")
            if chosen[group] == choice:
                raise ConfigError(f"{where}: restates {group}={choice}, the choice of conf/config.yaml: leave it out")
    changed = OmegaConf.merge(base, file)
    for key in leaves(OmegaConf.to_container(file, resolve=False)):
        if OmegaConf.select(changed, key) == OmegaConf.select(base, key):
            raise ConfigError(
                f"{where}: restates {key}={OmegaConf.select(base, key)}, which it is anyway: leave it out"
            )


@cache
def _base(scale: str, base_model: str) -> DictConfig:
    return compose(f"scale={scale}", f"base_model={base_model}")


def explain(error: Exception) -> str:
    """Hydra's error in one line, with a remedy."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        close = get_close_matches(choice, error.options, n=1)
        if group == "train_set":
            remedy = "for other examples name their ranks, from 1 up: train_set.ranks=[3,7]"
        else:
            remedy = f"did you mean {close[0]}?" if close else "choose one of these"
        return f"{group}={choice}: no such choice; {remedy} ({', '.join(sorted(error.options))})"
    unknown = re.search(r"Could not override '([^'@]+)'", str(error))
    if unknown and unknown[1] == "experiment":
        return "experiment: write +experiment=NAME, with a plus sign"
    if unknown:
        return unknown_key_message(unknown[1])
    return " ".join(str(error).split())
