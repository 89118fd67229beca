"""The report as a reader meets it: opened from the disk in a browser, without a server."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import claims, compare, headers, page_answers, report
from analysis.manifests import CLAIMS, MANIFESTS, ManifestError, load_manifests
from analysis.results import RESULTS, load
from analysis.run_data import Run
from analysis.seed_estimates import Estimator
from experiments.timings.synthetic_runs import sample_columns, write_run
from rlvr.cli import ConfigError, command
from rlvr.evaluate.graded_rows import repetition
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder

DRAWN = ("table08_main", "table05_loss_ablation", "figure02_post_saturation")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = {"steps": 60, "every": 30, "problems": 120, "rollouts": 8, "scale": "tiny", "model": "tiny"}
BENCHMARKS = {"tiny500": 1, "tiny_hard": 8}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A report of two small synthetic runs, its tables and its headline figure."""
    root = tmp_path_factory.mktemp("synthetic")
    for name, seed in (("one_shot", 0), ("one_shot", 1), ("full_set", 0)):
        write_run(root / "runs", name, seed, **SIZE, benchmarks=BENCHMARKS)
    runs, _ = load(root / "runs", root / "none")
    drawn = [m for m in load_manifests() if m.stem in DRAWN]
    claimed = [
        c
        for c in claims.read(load_manifests())
        if {one["table"] for one in c.get("cells", [])} <= set(DRAWN) and "curves" not in c
    ]
    index = report.build(
        runs, root / "report", drawn, left_out=["one_shot/seed9: cannot be read (why)"], claimed=claimed
    )
    return root, index


def test_the_first_page_is_small_and_every_file_it_names_is_there(built):
    _, index = built
    text = index.read_text()
    assert len(text) < 1_000_000
    for name in re.findall(r'(?:src|href)="([^"#:]+)[#"]', text):
        assert (index.parent / name).exists(), name
    for form in ("csv", "md", "tex"):
        assert (index.parent / "tables" / f"table08_main.{form}").stat().st_size > 500
    for form in ("png", "pdf", "svg"):
        assert (index.parent / "figures" / f"figure02_post_saturation.{form}").stat().st_size > 5000


def test_the_stored_answers_are_those_of_the_run(built):
    root, index = built
    (path,) = (index.parent / "data").glob("tiny.tiny.one_shot.seed0/tiny500-60-0.js")
    part = json.loads(path.read_text().removeprefix(f'arrived("{path.relative_to(index.parent)}",').rstrip()[:-1])
    run = next(run for run in load(root / "runs", root / "none")[0] if run.name == "one_shot")
    right = sum(row[page_answers.ROW.index("score")] for row in part["rows"])
    assert len(part["rows"]) == 120 and right == run.scores["tiny500"].at(60).sum()


def test_without_runs_the_papers_numbers_are_shown(tmp_path):
    parts = {}

    def track(items, description, total=None):
        found = list(items)
        parts[description] = (total or len(items), len(found))
        return found

    index = report.build([], tmp_path, [m for m in load_manifests() if m.stem in DRAWN], track)
    assert parts == {"tables": (2, 2), "answers": (0, 0), "figures": (1, 1)}
    text = index.read_text()
    assert "73.6" in text and "none yet" in text and "responses.html" not in text
    assert "figure02_post_saturation.png" in (tmp_path / "paper.html").read_text()


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.parquet").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds data of no report, which this one would replace: give a new folder"):
        report.build([], tmp_path, [])
    assert (tmp_path / "data" / "mine.parquet").read_text() == "mine"


def test_two_runs_compared(built, capsys):
    root, _ = built
    paths = [f"run={root}/runs/tiny/tiny/{name}/seed0" for name in ("one_shot", "full_set")]
    assert command(compare.Options, compare.compare, None, paths) == 0
    shown = capsys.readouterr().out
    assert "A: tiny/tiny/one_shot/seed0" in shown and "tiny_hard" in shown
    a, b = (load(root / "runs", root / "none")[0][i] for i in (1, 0))
    gained, lost = compare.flips(a, b, "tiny500")
    net = b.scores["tiny500"].correct[-1].sum() - a.scores["tiny500"].correct[-1].sum()
    assert len(gained) - len(lost) == net
    for wrong, said in ((["run=nowhere"], "expected two run folders"), (["run=nowhere"] * 2, "no run here")):
        assert command(compare.Options, compare.compare, None, wrong) == 1
        assert said in capsys.readouterr().err


def test_what_two_runs_do_not_have_in_common_is_said(tmp_path, capsys):
    for name, size, benchmarks in (
        ("long", SIZE, {"tiny500": 1, "mine": 1}),
        ("short", SIZE | {"steps": 30}, {"tiny500": 1}),
        ("others", SIZE | {"problems": 80}, {"tiny500": 1}),
    ):
        write_run(tmp_path, name, 0, **size, benchmarks=benchmarks)

    def compared(*names):
        paths = [f"run={tmp_path}/tiny/tiny/{name}/seed0" for name in names]
        assert command(compare.Options, compare.compare, None, paths) == 0
        return capsys.readouterr().out

    shown = compared("long", "short")
    assert re.search(r"tiny500 +│ 60, 30 ", shown)
    assert "tiny500: the last steps differ, 60 of A and 30 of B" in shown
    assert "mine: not compared, only A was evaluated on it" in shown
    shown = compared("short", "others")
    assert "tiny500: not compared, A answered 120 problems and B 80, 80 of them the same: evaluate both" in shown
    assert "B - A" not in shown  # no table without a line


def test_an_answer_that_says_everything_twice_is_shown_as_repeating(tmp_path):
    once = " ".join(f"word{i}" for i in range(60))
    texts = [once, f"{once} {once}", "so it is four and it is four"]
    columns = sample_columns(
        response=texts, repetition=[repetition(text) for text in texts], score=0.0, boxed=True, step=1
    )
    folder = RunFolder(tmp_path / "one_shot" / "seed0")
    samples.write(folder.rollouts_path(1), columns)
    run = Run("tiny", "tiny", "one_shot", 0, {}, "finished", 0, "", "", "", pd.DataFrame(), folder=folder)
    (line,) = page_answers.evolution(run)
    kinds = {answer["response"]: page_answers.KINDS[answer["kind"]] for answer in line["answers"]}
    assert [kinds[text] for text in texts] == ["wrong", "repeating", "wrong"]


def test_the_difference_of_two_runs_is_paired_by_problem(built):
    root, _ = built
    a, b = (load(root / "runs", root / "none")[0][i] for i in (1, 0))
    change = compare.changes(a, b)["tiny500"].interval
    at_a, at_b = (run.scores["tiny500"].correct[-1] for run in (a, b))
    assert change.value == pytest.approx(100 * (at_b - at_a).mean())
    error = 100 * (at_b - at_a).std() / np.sqrt(120)
    assert change.high - change.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_settings_that_differ_are_ours_then_verls_and_those_of_one_version_are_counted():
    verl, ours = {"actor_rollout_ref": {"kl": 1}}, {"experiment_name": "a", "loss": {"kl": 1, "entropy": 2}}
    a = verl | ours | {"label": "4"}
    b = {"actor_rollout_ref": {"kl": 0}, "experiment_name": "b", "loss": {"kl": 0, "entropy": 2}}
    b |= {"label": {"name": "wrong", "seed": 0}}
    assert compare.settings(a, b) == [
        "loss.kl: 1 -> 0",
        "actor_rollout_ref.kl: 1 -> 0",
        "keys that only A has: label (1)",
        "keys that only B has: label (2)",
    ]
    assert compare.settings(a, a) == []


@pytest.fixture(scope="module")
def page():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        page.errors = []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        browser.close()


def test_a_cell_opens_its_answers(built, page, tmp_path):
    _, index = built
    page.goto(f"{index.as_uri()}#table08_main")
    row = page.locator("#table08_main tr", has_text="{π₁}").first
    row.locator("a").first.click()
    page.wait_for_selector("article")
    assert page.text_content("#count").startswith("240 of 240 answers")  # both seeds
    page.select_option("#pick", index=1)
    page.wait_for_function("document.getElementById('count').textContent.startsWith('120 of 120 answers')")
    assert page.locator("article").count() == 50
    page.click("#more")
    assert page.locator("article").count() == 100
    page.select_option("#verdict", "correct")
    assert page.locator("article.wrong").count() == 0 and page.locator("article.right").count() > 0
    page.select_option("#verdict", "")
    page.fill("#search", "problem 77")
    assert page.locator("article").count() == 1 and "tiny500/77" in page.text_content("article")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "answers.jsonl")
    (line,) = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "tiny500/77"
    page.fill("#search", "")
    page.select_option("#sort", "tokens")
    tokens = [int(text) for text in re.findall(r"(\d+) tokens", page.text_content("#list"))]
    assert tokens == sorted(tokens) and len(tokens) == 50
    page.goto(index.with_name("responses.html").as_uri() + "#tiny.tiny.one_shot.seed0,tiny500,60;subject=Algebra")
    page.wait_for_selector("article")
    assert page.text_content("#count").startswith("30 of 120 answers")
    assert page.errors == []


def test_a_run_page_shows_how_its_answers_change(built, page):
    _, index = built
    page.goto(index.as_uri() + "#runs")
    page.locator("#runs-table a", has_text="one_shot/seed0").first.click()
    page.wait_for_selector("article")
    assert page.text_content("#at").startswith("step 1:")
    page.evaluate("() => { const s = document.getElementById('step'); s.value = s.max; s.oninput(); }")
    assert page.text_content("#at").startswith("step 60:")
    counts = [int(text) for text in re.findall(r"(\d+) x ·", page.text_content("#evolution"))]
    assert sum(counts) == SIZE["rollouts"]
    assert page.locator("#mix polygon").count() == len(page_answers.KINDS)
    page.locator("#evaluations a").last.click()
    page.wait_for_selector("article")
    assert page.errors == []


def test_a_run_page_marks_where_base_and_tuned_answers_differ(built, page):
    root, index = built
    runs, _ = load(root / "runs", root / "none")
    page.goto((index.parent / "run.html").as_uri() + "#tiny.tiny.one_shot.seed0")
    page.wait_for_selector("#pairs section")
    page.select_option("#tuned", "tiny500, step 60")
    page.wait_for_function("document.querySelector('#pairs section').textContent.startsWith('tiny500/')")
    base, run = runs[0], next(run for run in runs if run.id == "tiny/tiny/one_shot/seed0")
    before, after = base.scores["tiny500"].at(0), run.scores["tiny500"].at(60)
    assert f"mended ({sum((before == 0) & (after == 1))})" in page.text_content("#change")
    assert page.text_content("#pairs-count") == f"base: step 0 of {page_answers.in_link(base.id)}"
    assert page.locator("#pairs mark").count() > 0
    # Without what is marked both are the same text; with it, each is its own.
    halves = """() => [...document.querySelectorAll('#pairs .pair')].map((pair) => [...pair.querySelectorAll('pre')].map(
        (pre) => [pre.textContent, [...pre.querySelectorAll('span')].map((span) => span.textContent).join('')]))"""
    pairs = page.evaluate(halves)
    assert len(pairs) == min(50, sum((before == 0) & (after == 1)))
    assert all(left[1] == right[1] and left[0] != right[0] for left, right in pairs)
    page.select_option("#change", "broken")
    assert page.locator("#pairs section").count() == min(50, sum((before == 1) & (after == 0)))
    assert page.errors == []


def test_claims_and_headline_are_the_first_screen(built, page):
    _, index = built
    for width, height in ((1300, 900), (400, 800)):
        page.set_viewport_size({"width": width, "height": height})
        page.goto(index.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        top = page.evaluate("document.querySelector('#claims').getBoundingClientRect().top")
        assert wide <= width and top < 0.75 * height
    assert page.locator(".headline img").get_attribute("alt")
    row = page.locator("#claims tr", has_text="One example lifts accuracy a lot")
    assert "too few seeds" in row.text_content()
    row.locator("a").first.click()
    lacks = page.locator("section", has_text="One example lifts accuracy a lot").locator(
        "details", has_text="at least 3 seeds"
    )
    lacks.locator("summary").click()
    assert lacks.locator("code").first.text_content() == "python run.py +experiment=one_shot scale=tiny seed=2"
    assert "one_shot/seed9: cannot be read (why)" in page.text_content("main")


def test_tables_and_figures_are_folded_each_under_one_claim(built, page):
    _, index = built
    page.goto(index.as_uri())
    assert page.evaluate("document.documentElement.scrollHeight") <= 8000
    assert page.locator("details.artefact[open]").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('details.artefact')].map((one) => one.id)")
    assert len(ids) == len(set(ids)) and {"table05_loss_ablation", "figure02_post_saturation"} <= set(ids)
    for one in page.locator("details.artefact figcaption").all():
        assert re.match(r"[A-Z].*[.?] ", one.text_content())
    page.goto(f"{index.as_uri()}#figure02_post_saturation")  # a link opens what it leads to
    assert page.locator("#figure02_post_saturation img").is_visible()


def test_runs_can_be_sorted_and_filtered(built, page):
    _, index = built
    page.goto(f"{index.as_uri()}#runs")
    page.locator("#runs-table th button", has_text="run").first.click()
    page.locator("#runs-table th button", has_text="run").first.click()
    assert "one_shot/seed1" in page.locator("#runs-table tbody tr").first.text_content()
    page.fill("#filter", "full_set")
    assert page.locator("#runs-table tbody tr:visible").count() == 1
    assert page.errors == []


@pytest.mark.on_request("RLVR_AXE")
def test_axe_finds_nothing_serious(built, page):
    """Where RLVR_AXE names axe-core's axe.min.js (npm pack axe-core)."""
    _, index = built
    run = "tiny.tiny.one_shot.seed0"
    for name in ("index.html", "paper.html", f"responses.html#{run},tiny500,60", f"run.html#{run}"):
        page.goto((index.parent / name.split("#")[0]).as_uri() + name[len(name.split("#")[0]) :])
        page.wait_for_timeout(300)
        page.add_script_tag(path=os.environ["RLVR_AXE"])
        found = page.evaluate("axe.run()")["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], name


def test_a_wrong_address_says_so(built, page):
    _, index = built
    page.goto((index.parent / "run.html").as_uri() + "#nowhere")
    page.wait_for_function("document.getElementById('about').textContent.includes('missing')")
    page.errors.clear()  # the browser itself reports the file that is not there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing=true", "scale=tny"], "scale=tny: did you mean tiny?"),
        (["runs=/no", "results=/no"], "runs=/no: no such"),
    ],
)
def test_what_a_report_cannot_be_of_is_said(arguments, message, tmp_path, capsys):
    assert command(report.Options, report.report, None, [f"out={tmp_path}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_missing_runs_are_printed_as_commands(built, capsys):
    root, _ = built
    arguments = [f"runs={root}/runs", f"results={root}/none", "missing=true"]
    assert command(report.Options, report.report, None, [*arguments, "table=8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "python run.py +experiment=one_shot scale=tiny seed=2" in lines
    assert "python run.py +experiment=one_shot scale=tiny seed=0" not in lines
    assert lines[-1] == f"# {len(lines) - 1} runs are missing" and len(set(lines)) == len(lines)
    assert command(report.Options, report.report, None, [*arguments, "table=table88_main"]) == 1
    assert "did you mean table08_main?" in capsys.readouterr().err


def test_every_claim_names_what_is_there_and_a_wrong_one_is_refused(tmp_path):
    manifests = load_manifests()
    assert len(claims.read(manifests)) >= 16
    text = (MANIFESTS / CLAIMS).read_text()
    for right, wrong in (("row: WD + KL", "row: WD + KK"), ("panel: Average", "panel: Avrage"), ("where:", "were:")):
        path = tmp_path / CLAIMS
        path.write_text(text.replace(right, wrong))
        with pytest.raises(
            ManifestError, match=f"did you mean {right.split(': ')[-1].rstrip(':')}".replace("+", r"\+")
        ):
            claims.read(manifests, path)


def test_claims_of_the_committed_runs():
    """What one reads in them, claim by claim, and what one would read of a part of them."""
    runs, _ = load(None, RESULTS)
    manifests = load_manifests()
    read = claims.read(manifests)

    def judged(runs):
        return {claim.claim: claim for claim in claims.judge(read, manifests, Estimator(runs))}

    found = judged(runs)
    pool = found["The whole pool lifts accuracy a lot"]
    assert (pool.word, pool.mark, pool.missing) == ("direction reproduced", "yes", [])
    assert pool.evidence[0].by_seed == pytest.approx([35.4, 38.0, 38.2, 37.0, 35.4])
    assert np.mean(pool.evidence[0].by_seed) == pytest.approx(pool.evidence[0].ours.value)
    gain = found["Test accuracy goes on rising after training accuracy has saturated (pi1, pi13)"]
    assert (gain.word, gain.mark) == ("not reproduced", "no")
    (line,) = (line for line in claims.markdown(list(found.values())).splitlines() if pool.claim in line)
    assert line.endswith("| +37.6 | +36.8 (+32.4 to +41.2) | 5 | direction reproduced |")

    one_seed = {"full_set": 1, "one_shot_pi13": 3}  # how many seeds of what is kept, of the others none
    of_few = judged([run for run in runs if run.seed < one_seed.get(run.name, 0)])
    few = of_few[pool.claim]
    assert few.word == "too few seeds"
    assert few.missing == ["python run.py -m +experiment=full_set scale=tiny seed=1,2"]
    lifts = of_few["One example lifts accuracy a lot (pi1, pi13)"]
    assert lifts.word == "1 of 1 reproduced, 1 open" and lifts.evidence[1].missing == []
    table, _, idle = claims.markdown(list(of_few.values())).partition("\nNot run yet: ")
    lines = table.splitlines()
    assert all(line.count("|") == 6 for line in lines)
    not_run = of_few["The entropy loss alone lifts accuracy"]
    assert not_run.word == claims.NOT_RUN and not_run.claim in idle
    assert len(lines) - 2 + len(idle.split("; ")) == len(of_few)


def test_readme_and_the_results_page_show_the_claims_of_the_committed_results(tmp_path, monkeypatch):
    copies = {}
    pages = {name: getattr(report, name) for name in ("README", "RESULTS_PAGE")}
    for name, page in pages.items():
        shown = page.read_text()
        begin, end = (shown.index(marker) for marker in (claims.BEGIN, claims.END))
        copy = copies[name] = tmp_path / f"{name}.md"
        copy.write_text(f"{shown[:begin]}{claims.BEGIN}of yesterday\n{shown[end:]}")
        monkeypatch.setattr(report, name, copy)
    experiments = Path(shutil.copytree(headers.EXPERIMENTS, tmp_path / "experiment"))  # a test mends no header of ours
    monkeypatch.setattr(headers, "EXPERIMENTS", experiments)
    header = experiments / "one_shot.yaml"
    header.write_text(header.read_text().replace("# Ours: scale=tiny", "# Ours: of yesterday"))
    assert command(report.Options, report.report, None, ["readme=true"]) == 0
    for name, place in pages.items():
        assert copies[name].read_text() == place.read_text(), "run: python -m analysis.report readme=true"
    assert header.read_text() == (report.ROOT / "conf" / "experiment" / "one_shot.yaml").read_text()
    copies["README"].write_text("no markers")
    assert command(report.Options, report.report, None, ["readme=true"]) == 1


def test_readmes_table_has_one_number_and_its_interval_in_a_cell():
    runs, _ = load(None, RESULTS)
    manifests = load_manifests()
    judged = claims.judge(claims.read(manifests), manifests, Estimator(runs))
    header, _, *lines = claims.short_markdown(judged).splitlines()
    assert header == "| claim | paper | ours, scale=tiny | verdict |" and 5 <= len(lines) <= 8
    # The change in points with its interval, or with the share of seeds that end high and its interval.
    ours = r"[+-]\d+\.\d(, \d of \d seeds end high[a-z0-9 ]*)? \([^;|)]+\)"
    assert all(re.match(rf"\| [^|]+ \| [+-]\d+\.\d \| {ours} \| [a-z ()]+ \|$", line) for line in lines)
    (pool,) = (line for line in lines if "whole pool raises accuracy" in line)
    assert (
        pool == "| Training on the whole pool raises accuracy | +37.6 | +36.8 (+32.4 to +41.2) | direction reproduced |"
    )
