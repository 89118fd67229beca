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

from rlvr.cli import ConfigError, command, option

LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "USE_POLICY.md")
CONVERTER = "convert_hf_to_gguf.py"
UNKNOWN = "other"


@dataclass
class Options:
    run: Path = option("the run folder")
    out: Path = option("the folder to write; must not be there yet")
    step: str = option("which checkpoint: best, last, or its number", "best")
    base: str | None = option("the untrained model, where it has moved since the run", None)
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(
        "of the weights; default: as they are stored", None
    )
    format: Literal["safetensors", "gguf"] = option("gguf: a file for llama.cpp besides", "safetensors")
    converter: Path | None = option("of format=gguf: llama.cpp's convert_hf_to_gguf.py; default: the one on PATH", None)
    license: str | None = option("the base model's, as the hub calls it, where its folder does not say", None)
    push_to: str | None = option("a hub repository to upload the folder to, private if it is new", None)


def export(options: Options) -> int:
    """Write the folder; returns the exit code. ConfigError for what cannot be exported."""
    from rlvr.evaluate import evaluated_models as subjects

    if options.out.exists():
        raise ConfigError(f"out={options.out}: is there already; give another, or remove it")
    converter = find_converter(options.converter) if options.format == "gguf" else None
    if options.push_to and not sys.stdin.isatty():
        raise ConfigError("push_to: asks before it uploads, and nobody is at the keyboard; leave it out")
    subject = subjects.of_run(options.run, options.step, options.base, None)
    step = max(subject.models)
    if step == 0 or len(subject.models) > 2:
        raise ConfigError(f"step={options.step}: expected best, last or one kept step of {options.run}")
    base = Path(subject.models[0]) if Path(subject.models[0]).is_dir() else None
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
        for name in LICENCES:
            if base is not None and (base / name).is_file():
                shutil.copy(base / name, partial / name)
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

    from rlvr.data.prompts import chat_template

    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype) if dtype else "auto")
    tokenizer = AutoTokenizer.from_pretrained(path)
    if (text := chat_template(template)) is not None:
        tokenizer.chat_template = text
    # transformers' own default is 20 tokens, which no answer fits into.
    model.generation_config.max_new_tokens = config["scale"]["max_response_tokens"]
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def licence_of(base: Path | None) -> str:
    """What the model card in the base model's folder says (its YAML header); "other" where it does not."""
    import yaml

    text = (base / "README.md").read_text() if base is not None and (base / "README.md").exists() else ""
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
    from rlvr.runs import evaluations
    from rlvr.runs.plain_files import read_json

    config, folder = subject.config, subject.folder
    base = config["base_model"]
    given = str(base.get("path") or "")
    on_hub = given.count("/") == 1 and not given.startswith(("/", "."))
    header: dict[str, Any] = {"license": licence, "library_name": "transformers", "pipeline_tag": "text-generation"}
    if on_hub:
        header["base_model"] = given
    header["tags"] = ["rlvr", "reinforcement-learning", "verl"]
    before, after = (evaluations.scores(folder, s) for s in (0, step))
    scores = [
        f"| {benchmark} | {before[benchmark] * 100:.1f} | {score * 100:.1f} |" if benchmark in before
        else f"| {benchmark} | | {score * 100:.1f} |"
        for benchmark, score in after.items()
    ]  # fmt: skip
    scale, loss = config["scale"], config.get("loss", {})
    packages = read_json(folder.provenance_path)["packages"] if folder.provenance_path.exists() else {}
    versions = {name: packages[name] for name in ("verl", "torch", "transformers") if name in packages}
    settings = {
        "algorithm": (config.get("algorithm") or {}).get("adv_estimator"), "steps": step,
        "prompts a step": scale.get("prompts_per_step"), "answers to each": scale.get("samples_per_prompt"),
        "learning rate": scale.get("learning_rate"), "temperature": scale.get("temperature"),
        "tokens of an answer": scale.get("max_response_tokens"), "seed": config.get("seed"),
        "LoRA rank": (config.get("lora") or {}).get("rank") or None,
        **{f"loss.{key}": value for key, value in loss.items()}, **versions,
    }  # fmt: skip
    examples = "\n".join(
        f"{_indented(example['question'])}\n\nLabel: `{example['answer']}`\n" for example in trained_on(folder)
    )
    stated = (
        licence
        if licence != UNKNOWN
        else "not stated beside the base model's weights; look it up before you share this"
    )
    return "\n".join([
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {name}\n",
        f"{base['name']} after {step} steps of reinforcement learning with verifiable rewards "
        f"(experiment `{config.get('experiment_name', 'unknown')}`, one-shot-rlvr on verl).\n",
        "## Trained on\n", examples,
        "## Scores\n", "In per cent, with 95 % intervals over problems; they say nothing about other training seeds.\n",
        "| benchmark | base | this model |\n|---|---|---|", *scores, "",
        "## Settings\n", "| | |\n|---|---|", *(f"| {key} | {value} |" for key, value in settings.items() if value is not None),
        "", "Prompts: the chat template beside the tokenizer is the one that training used.\n",
        f"Licence of the base model: {stated}.\n",
    ])  # fmt: skip


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def find_converter(given: Path | None) -> Path:
    """llama.cpp's converter. ConfigError when it is not at hand."""
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
