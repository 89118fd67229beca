"""What is exported is the trained model, loadable by others, with its story beside it."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from served import MODEL
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlvr import export
from rlvr.cli import ConfigError, command
from rlvr.data.prompts import TEMPLATES
from rlvr.runs.folder import RunFolder


def main(*arguments):
    return command(export.Options, export.export, None, [str(argument) for argument in arguments])


def test_the_folder_has_the_trainers_logits_and_says_where_they_come_from(run, tmp_path):
    out = tmp_path / "mine"
    assert main(f"run={run.path}", f"out={out}", "step=20") == 0
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (out, run.weights_path(20))
    )
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 3+4?"}], return_tensors="pt", add_generation_prompt=True
    )
    ids = ids["input_ids"] if not isinstance(ids, torch.Tensor) else ids
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert ours.generation_config.max_new_tokens == 48
    header, text = (out / "README.md").read_text().removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(header)["license"] == "apache-2.0" and "base_model" not in yaml.safe_load(header)
    assert "    What is 3+4?\n\nLabel: `7`" in text and str(run.path) not in text
    assert re.search(r"\| greedy \| 16 \| \d+\.\d \(.+\) \| \d+\.\d \(.+\) \|", text)
    assert "tried" not in text  # evaluated, but no benchmark of the run's report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    assert main(f"run={run.path}", f"out={out}", "step=20") == 1


def test_the_runs_template_becomes_the_chat_template(run, tmp_path):
    config = run.config()
    config["base_model"]["template"] = "qwen25-math-cot"
    export._write_model(str(MODEL), "qwen25-math-cot", config, "bfloat16", tmp_path / "m")
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template == TEMPLATES["qwen25-math-cot"]
    assert next(AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype="auto").parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(("template", "ends"), [("chat", [1]), ("none", [1]), ("qwen25-math-cot", [1, 0])])
def test_an_exported_model_ends_where_evaluation_does(run, tmp_path, template, ends):
    """The model names `<|pad|>` (1) as its end; the template's stop texts have `<|endoftext|>` (0)."""
    model = tmp_path / "trained"
    shutil.copytree(MODEL, model)
    generation = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(generation | {"eos_token_id": 1}))
    export._write_model(str(model), template, run.config(), None, tmp_path / "m")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert exported.generation_config.eos_token_id == ends
    ids = AutoTokenizer.from_pretrained(tmp_path / "m")("What is 3+4?\n", return_tensors="pt")
    last = exported.generate(**ids, do_sample=False)[0, -1].item()
    assert (last == 0) == (0 in ends)


def test_mistakes(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    out = f"out={tmp_path / 'o'}"
    for arguments, message in (
        ([f"run={run.path}", f"out={tmp_path}"], "exists already"),
        ([f"run={run.path}", out, "step=0"], "expected best, last or one kept step"),
        ([f"run={run.path}", out, "step=30"], "keeps 20"),
        ([f"run={run.path}", out, "format=gguf"], "convert_hf_to_gguf.py is not there"),
        ([f"run={run.path}", out, "push_to=me/mine"], "needs a terminal"),
        ([f"run={tmp_path}", out], "give the folder of a run"),
    ):
        assert main(*arguments) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_converter_that_fails_leaves_nothing_and_one_that_works_writes_the_file(run, tmp_path):
    broken, works = tmp_path / "broken.py", tmp_path / "works.py"
    broken.write_text("raise SystemExit('no such architecture')")
    works.write_text(
        "import sys, pathlib; pathlib.Path(sys.argv[3]).write_text(pathlib.Path(sys.argv[1], 'config.json').read_text())"
    )
    with pytest.raises(ConfigError, match="broken.py failed: no such architecture"):
        export._convert(broken, tmp_path, tmp_path / "x.gguf")
    export._convert(works, MODEL, tmp_path / "x.gguf")
    assert (tmp_path / "x.gguf").read_text() == (MODEL / "config.json").read_text()


def test_nothing_leaves_the_machine_without_its_name_typed(tmp_path, monkeypatch):
    def called(self, *arguments, **keywords):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", called)
    assert export.push(tmp_path, "me/mine", lambda question: "yes") == 1
    with pytest.raises(ConfigError, match="push_to=me/mine: no network"):
        export.push(tmp_path, "me/mine", lambda question: "me/mine")


def test_licence_of_a_folder(tmp_path):
    assert export.licence_of(MODEL) == "apache-2.0"
    assert export.licence_of(Path("on-the/hub")) == export.licence_of(tmp_path) == "other"
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert export.licence_of(tmp_path) == "other"
    assert RunFolder(tmp_path).state == "new"
