"""README and docs: what they name exists, and a page stays short."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from rlvr.config.schema import experiments, group_options

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/LOG.md", "experiments/PREDICTIONS.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
ROOMS = "rlvr|conf|experiments|analysis|tests|results|docs"
LONGEST = {"README.md": 200, "docs": 150}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_paths_and_commands_of_a_page_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", text)
    paths = re.findall(rf"`((?:{ROOMS})/[\w./]+)`", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]
    modules = set(re.findall(r"python -m ((?:rlvr|experiments|analysis)[\w.]+)", text))
    missing += [module for module in modules if find_spec(module) is None]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_experiments_scales_and_machines_of_a_page_exist(page):
    text = page.read_text()
    named = set(re.findall(r"\+experiment=([a-z]\w+)", text))
    assert named <= {*experiments()}
    for group in ("scale", "hardware"):
        assert set(re.findall(rf"\b{group}=([a-z]\w*)", text)) <= {*group_options(group)}


def test_readmes_table_names_experiments_and_models():
    tables = re.findall(r"^\|.*`\+experiment=`.*\n((?:\|.*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    words = {word for table in tables for code in re.findall(r"`([^`]+)`", table) for word in code.split()}
    named = {word.removeprefix("base_model=") for word in words} - {"scale=paper"}
    assert len(named) > 25
    assert named <= {*experiments(), *group_options("base_model")}


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT / "experiments"], ids=lambda p: p.name)
def test_a_page_stays_short(page):
    limit = LONGEST["README.md"] if page.name == "README.md" else LONGEST["docs"]
    assert len(page.read_text().splitlines()) <= limit
