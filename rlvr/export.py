"""Writes a checkpoint of a run as a Hugging Face folder of its own, which transformers, vLLM and `rlvr.serve` load.

    python -m rlvr.export run=runs/tiny/tiny/one_shot/seed0 out=my_model
    python -m rlvr.export run=<run folder> step=40 out=my_model dtype=bfloat16
    python -m rlvr.export run=<run folder> out=my_model format=gguf converter=<llama.cpp>/convert_hf_to_gguf.py
    python -m rlvr.export run=<run folder> out=my_model push_to=me/my_model     # asks before anything leaves this machine

The folder holds the weights (safetensors, the adapters of LoRA merged), the tokenizer with the template that training used as
its chat template, the generation config, the base model's licence, and a model card: training examples, settings, scores.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlvr.cli import ConfigError, command, hide_transformers_bars, option

LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "USE_POLICY.md")
CONVERTER = "convert_hf_to_gguf.py"
UNKNOWN = "other"
SETTINGS = {
    "prompts a step": "prompts_per_step", "answers to each": "samples_per_prompt", "learning rate": "learning_rate",
    "temperature": "temperature", "tokens of an answer": "max_response_tokens",
}  # fmt: skip


@dataclass
class Options:
    run: Path = option("the run folder")
    out: Path = option("the folder to write; must not be there yet")
    step: str = option("which checkpoint: best, last, or its number", "best")
    base: str | None = option("the untrained model, where it has moved since the run", None)
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(
        "of the weights; default: as they are stored", None
    )
    format: Literal["safetensors", "gguf"] = option("gguf: also a file for llama.cpp", "safetensors")
    converter: Path | None = option("of format=gguf: llama.cpp's convert_hf_to_gguf.py; default: the one on PATH", None)
    license: str | None = option("the base model's, as the hub calls it, where its folder does not say", None)
    push_to: str | None = option("a hub repository to upload the folder to, private if it is new", None)


def export(options: Options) -> int:
    """Write the folder; returns the exit code. ConfigError for what cannot be exported."""
    from rlvr.evaluate import evaluated_models

    if options.out.exists():
        raise ConfigError(f"out={options.out}: exists already; give another, or remove it")
    converter = find_converter(options.converter) if options.format == "gguf" else None
    if options.push_to and not sys.stdin.isatty():
        raise ConfigError("push_to: it asks before it uploads, which needs a terminal; leave it out")
    subject = evaluated_models.of_run(options.run, options.step, options.base, None)
    step = max(subject.models)
    if step == 0 or len(subject.models) > 2:
        raise ConfigError(f"step={options.step}: expected best, last or one kept step of {options.run}")
    base = Path(subject.models[0])
    licence = options.license or licence_of(base)
    if options.push_to and licence == UNKNOWN:
        raise ConfigError(
            "push_to: the base model's folder does not state its licence; give license=<as the hub calls it>"
        )
    out = options.out.resolve()
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write_model(subject.models[step], subject.template, subject.config, options.dtype, partial)
        for file in (base / name for name in LICENCES if (base / name).is_file()):
            shutil.copy(file, partial)
        (partial / "README.md").write_text(card(subject, step, out.name, licence))
        if converter is not None:
            _convert(converter, partial, partial / f"{out.name}.gguf")
        os.replace(partial, out)
    except OSError as error:
        raise ConfigError(f"out={options.out}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"step {step} of {options.run}: {options.out}")
    return push(out, options.push_to, input) if options.push_to else 0


def _write_model(path: str, template: str, config: dict, dtype: str | None, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr.data.prompts import STOPS, chat_template
    from rlvr.verl_torch import stop_texts
    from rlvr.verl_torch.generation import end_tokens

    hide_transformers_bars()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype) if dtype else "auto")
    tokenizer = AutoTokenizer.from_pretrained(path)
    if (text := chat_template(template)) is not None:
        tokenizer.chat_template = text
    # transformers' own default is 20 tokens, too few for an answer.
    model.generation_config.max_new_tokens = config["scale"]["max_response_tokens"]
    stops = stop_texts.token_ids(tokenizer, STOPS.get(template, ()))
    model.generation_config.eos_token_id = list(dict.fromkeys([*end_tokens(model, lambda: tokenizer), *stops]))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def licence_of(base: Path) -> str:
    """The licence in the YAML header of the base model's card; "other" if it names none."""
    import yaml

    text = (base / "README.md").read_text() if (base / "README.md").exists() else ""
    if not text.startswith("---"):
        return UNKNOWN
    try:
        header = yaml.safe_load(text.split("---")[1])
    except yaml.YAMLError:
        return UNKNOWN
    return str(header.get("license") or UNKNOWN) if isinstance(header, dict) else UNKNOWN


def card(subject: Any, step: int, name: str, licence: str) -> str:
    """The model card, as Markdown with the hub's header."""
    import yaml

    from rlvr.data.own_examples import trained_on
    from rlvr.data.prompts import STOPS

    config = subject.config
    base = config["base_model"]
    given = str(base.get("path") or "")
    header: dict[str, Any] = {"license": licence, "library_name": "transformers", "pipeline_tag": "text-generation"}
    if given.count("/") == 1 and not given.startswith(("/", ".")):  # on the hub
        header["base_model"] = given
    header["tags"] = ["rlvr", "reinforcement-learning", "verl"]
    examples = [
        "\n".join(f"    {line}" for line in one["question"].splitlines()) + f"\n\nLabel: `{one['answer']}`\n"
        for one in trained_on(subject.folder)
    ]
    unstated = "not stated beside the base model's weights; look it up before you share this"
    stops = ", ".join(f"`{stop}`" for stop in STOPS.get(subject.template, ()))
    return "\n".join([
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {name}\n",
        f"{base['name']} after {step} steps of reinforcement learning with verifiable rewards "
        f"(experiment `{config.get('experiment_name', 'unknown')}`, one-shot-rlvr on verl).\n",
        "## Trained on\n", *examples,
        "## Scores\n", *_scores(subject, step), "",
        "## Settings\n", "| | |\n|---|---|", *_settings(subject, step), "",
        "Prompts: the chat template beside the tokenizer is the one that training used.\n",
        *([f"In the scores above an answer also ends before the first of {stops}; the generation config lists those that are "
           "one token.\n"] if stops else []),
        f"Licence of the base model: {licence if licence != UNKNOWN else unstated}.\n",
    ])  # fmt: skip


def _scores(subject: Any, step: int) -> list[str]:
    """The lines about the benchmarks of the run's report, as far as the step is evaluated on them."""
    from rlvr.data.protocols import reported_names
    from rlvr.runs import evaluations

    benchmarks = reported_names(subject.config)
    before, after = (evaluations.scores(subject.folder, s, benchmarks) for s in (0, step))
    if not after:
        return ["This step is not evaluated."]
    rows = []
    for name, score in after.items():
        of_base = f"{before[name].accuracy * 100:.1f}" if name in before else ""
        rows.append(f"| {name} | {score.problems} | {of_base} | {score.accuracy * 100:.1f} |")
    about = "In per cent, with 95 % intervals over problems; they say nothing about other training seeds.\n"
    return [about, "| benchmark | problems | base | this model |\n|---|---|---|---|", *rows]


def _settings(subject: Any, step: int) -> list[str]:
    from rlvr.runs.plain_files import read_json

    config, file = subject.config, subject.folder.provenance_path
    packages = read_json(file)["packages"] if file.exists() else {}
    settings = {"algorithm": (config.get("algorithm") or {}).get("adv_estimator"), "steps": step}
    settings |= {shown: config["scale"].get(key) for shown, key in SETTINGS.items()}
    settings |= {"seed": config.get("seed"), "LoRA rank": (config.get("lora") or {}).get("rank") or None}
    settings |= {f"loss.{key}": value for key, value in config.get("loss", {}).items()}
    settings |= {package: packages.get(package) for package in ("verl", "torch", "transformers")}
    return [f"| {key} | {value} |" for key, value in settings.items() if value is not None]


def find_converter(given: Path | None) -> Path:
    """llama.cpp's converter. ConfigError if it is not found."""
    found = str(given) if given else shutil.which(CONVERTER)
    if found is None or not Path(found).is_file():
        raise ConfigError(f"format=gguf: {found or CONVERTER} is not there; converter=<llama.cpp>/{CONVERTER} names it")
    return Path(found)


def _convert(converter: Path, model: Path, file: Path) -> None:
    done = subprocess.run([sys.executable, converter, model, "--outfile", file], capture_output=True, text=True)
    if done.returncode or not file.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"format=gguf: {converter.name} failed: {last}")


def push(folder: Path, repository: str, ask: Callable[[str], str]) -> int:
    """Upload the folder once the user has typed the repository's name; returns the exit code."""
    from huggingface_hub import HfApi

    if ask(f"upload {folder} to {repository}? Type the repository's name to go on: ").strip() != repository:
        print("not uploaded")
        return 1
    hub = HfApi()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # huggingface_hub raises its own and its HTTP library's errors
        raise ConfigError(f"push_to={repository}: {' '.join(str(error).split())[:300]}") from None
    print(f"uploaded to {repository}")
    return 0


if __name__ == "__main__":
    sys.exit(command(Options, export, __doc__))
