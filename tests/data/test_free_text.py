"""A user's text stays as it is written: through Hydra, OmegaConf, the run folder's config.yaml and verl's training rows."""

import json
import re
import shutil

import pytest
import yaml
from command_line import run
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rlvr.config.compose import compose, quoted
from rlvr.config.schema import CONF, check
from rlvr.data import prepare
from rlvr.planning.plan import plan
from rlvr.runs.config_changes import config_differences
from rlvr.runs.folder import RunFolder, open_run
from rlvr.runs.free_text import MARK, as_written, for_hydra, in_quotes, protected, without_quotes
from rlvr.runs.naming import run_name, science

PIECES = [
    "${",
    "${seed}",
    "}",
    "$",
    "{",
    "???",
    "?",
    "\\",
    "'",
    '"',
    MARK,
    "a",
    " ",
    ",",
    "=",
    "\n",
    "[",
    "(",
    ":",
    "#",
]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.lists(st.sampled_from(PIECES)).map("".join),
)
HARD = [
    "plants ${seed}$ seeds and gets ${2",
    "${oc.env:HOME}",
    "\\${seed} \\\\${seed}",
    "???",
    '"Yes", he said: is it ${',
    "'a' is it, or 'b'?",
    "C:\\",
    f"${MARK}{{x}} and ???{MARK}",
    "one line\nand ${another}\t#5, [a=b]",
]


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_any_text_comes_back(text):
    hidden = protected(text)
    assert as_written(hidden) == text
    assert without_quotes(in_quotes(text)) == text
    given = OverridesParser.create().parse_override(f"a={in_quotes(hidden)}")
    again = OverridesParser.create().parse_override(f"a={given.get_value_element_as_str()}")  # as a sweep writes it
    cfg = OmegaConf.create({"a": again.value(), "rows": [{"b": hidden}]})
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    assert as_written(OmegaConf.to_container(cfg)) == {"a": text, "rows": [{"b": text}]}


def test_what_is_in_hydras_quotes_already_stays_there():
    assert for_hydra("'a, b'") == "'a, b'" and for_hydra('"it\'s"') == "'it\\'s'"
    assert for_hydra("'${seed}', '???'") == f"'${MARK}{{seed}}', '???{MARK}'"
    assert quoted("example.question=null") == "example.question=null"


@pytest.mark.parametrize("text", [*HARD, None], ids=lambda text: text or "a file of all")
def test_a_text_of_the_command_line_or_a_file_reaches_the_folder_and_the_rows(text, tmp_path):
    texts, arguments = [text], [f"example.question={text}", "example.answer=7"]
    if text is None:
        texts, arguments = HARD, [f"example.file={tmp_path}/mine.jsonl"]
        rows = [json.dumps({"question": one, "answer": "7"}) for one in texts]
        (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    expected = [{"question": one, "answer": "7"} for one in texts]
    cfg = compose("+experiment=one_shot", f"runs_dir={tmp_path}", "scale.prompts_per_step=16", *arguments)
    arguments.append("scale.prompts_per_step=16")
    assert cfg.experiment_folder == run_name("one_shot", None, arguments)  # as the launcher plans it
    made = plan(cfg)
    with open_run(made.folder.path, made.stored_config):
        kept = RunFolder(made.folder.path).config()
    assert kept["train_set"]["examples"] == expected
    assert kept["overrides"] == science(arguments)
    prepare.write_rows(made.folder, made.problems.training_rows, [{"no": "test rows"}])
    assert prepare.examples.trained_on(made.folder, len(texts)) == expected
    assert not config_differences(kept, yaml.safe_load(yaml.safe_dump(plan(cfg).stored_config)))  # it may resume


def test_a_file_of_conf_holds_texts_as_well(tmp_path):
    conf = shutil.copytree(CONF, tmp_path / "conf")
    rows = "[{question: 'plants ${seed}$ seeds, ${none}', answer: 5}]"
    (conf / "train_set" / "mine.yaml").write_text(f"ranks: null\nexamples: {rows}\nname: mine\n")
    typed = "# @package _global_\nexample:\n  question: plants ${seed}$ seeds, ${none}\n  answer: '5'\n"
    (conf / "experiment" / "typed.yaml").write_text(typed)
    for arguments in (["+experiment=one_shot", "train_set=mine"], ["+experiment=typed"]):
        cfg = compose(*arguments, conf=conf)
        check(cfg)
        kept = plan(cfg).stored_config["train_set"]["examples"]
        assert kept == [{"question": "plants ${seed}$ seeds, ${none}", "answer": "5"}]


def test_a_label_is_a_text_too():
    (row, *_), _ = prepare.chosen_examples(compose("+experiment=one_shot", "label.text=\\text{${seed}}"), None)
    assert row["answer"] == "\\text{${seed}}"


def test_a_sweep_leaves_the_text_alone(tmp_path):
    text = "Ida plants ${seed}$ seeds, 'two' a day: ${"
    given = [
        "+experiment=one_shot",
        f"runs_dir={tmp_path}",
        f"example.question={text}",
        "example.answer=7",
        "check=true",
    ]
    done = run("-m", *given, "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    name = run_name("one_shot", None, given[2:4])
    assert re.findall(rf"{re.escape(name)}/seed([01]): the configuration is sound", done.stdout) == ["0", "1"]
