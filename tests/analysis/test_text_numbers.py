"""Numbers in the text of README.md and docs/results.md come from results/."""

import pytest

from analysis import text_numbers
from analysis.results import RESULTS, load
from rlvr.cli import ConfigError

ORDINARY = "ends at <!--acc one_shot_pi13-->old<!--/-->, from <!--acc one_shot step=0 seed=1-->old\ntext<!--/-->."


@pytest.fixture(scope="module")
def runs():
    return load(None, RESULTS)[0]


def test_numbers_are_those_of_the_runs_and_the_rest_of_the_page_stays(runs, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(ORDINARY + " <!--acc one_shot_pi13 on=tiny_hard show=range-->?<!--/-->")
    text_numbers.fill(page, runs)
    (scores,) = (run.scores["tiny500"] for run in runs if run.id == "tiny/tiny/one_shot_pi13/seed0")
    first = f"{100 * scores.correct[-1].sum() / 500:.1f}"
    assert page.read_text().startswith(f"ends at <!--acc one_shot_pi13-->{first}, ")
    assert ", from <!--acc one_shot step=0 seed=1-->35.0<!--/-->. " in page.read_text()
    assert " to " in page.read_text()
    text_numbers.fill(page, runs)  # again: the same
    assert page.read_text().count("<!--/-->") == 3


def test_seeds_that_end_high_are_told_from_the_others(runs, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!--acc one_shot show=ends-->?<!--/--> <!--acc one_shot_pi13 show=ends-->?<!--/-->")
    text_numbers.fill(page, runs)
    ends = [
        100 * run.scores["tiny500"].correct[-1].mean() for run in runs if run.id.startswith("tiny/tiny/one_shot/seed")
    ]
    high = [end for end in ends if end >= 53.2]  # halfway between the base model and the pool's runs
    assert (
        f"{len(high)} of {len(ends)} seeds end at {min(high):.1f} to {max(high):.1f}, the others at" in page.read_text()
    )
    assert ">all " in page.read_text()


@pytest.mark.parametrize(
    "text, names",
    [
        ("one_shoot", "one_shot"),
        ("one_shot stap=0", "step"),
        ("one_shot step=7", "step 7"),
        ("one_shot seed=99", "seed 99"),
    ],
)
def test_a_number_that_the_runs_do_not_have_is_refused(text, names, runs, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"<!--acc {text}-->1<!--/-->")
    with pytest.raises(ConfigError, match=names):
        text_numbers.fill(page, runs)
    assert page.read_text() == f"<!--acc {text}-->1<!--/-->"
