"""What scores and what does not: every rule by example, and hostile input."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.grading import REASONS, equal_answers, grade, grade_many, last_boxed
from rlvr.grading.workers import workers
from rlvr.training.rewards import compute_score, compute_scores

ROOT = Path(__file__).resolve().parents[2]
CORRECT = (1.0, "correct")


def boxed(answer):
    return f"\\boxed{{{answer}}}"


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("012", "12"),
        ("42.", "42"),
        ("$\\frac{1}{2}$", "0.5"),
        ("\\dfrac12", "0.5"),
        ("-2\\frac{1}{3}", "-\\frac{7}{3}"),
        ("3.5\\text{ cm}^2", "3.5"),
        ("3.5", "3.5\\,\\mathrm{m}^{2}"),
        ("\\frac{270}7^\\circ", "\\frac{270}7\\text{ degrees}"),
        ("5\\text{ cm}^{2}", "5 \\text{cm}^2"),
        ("45^\\circ", "45"),
        ("45°", "45"),
        ("\\sin 90^\\circ", "1"),
        ("x ∈ [1, 2)", "x \\in [1,2)"),
        ("x \\in [1, 2)", "[1,2)"),
        ("True", "true"),
        ("\\text{Even}", "even"),
        ("(C)", "\\text{C}"),
        ("v_{0} t", "v_0 t"),
        ("12,345", "12345"),
        ("12{,}345", "12345"),
        ("11,\\! 111", "11111"),
        ("\\$16,\\!386.20", "16386.20"),
        ("4.5 \\times 10^{33}", "4.5e33"),
        ("0.0015", "1.5e-3"),
        ("2π", "2\\pi"),
        ("−3", "-3"),
        ("50\\%", "50"),
        ("50\\%", "0.5"),
        ("x**2", "x^2"),
        ("\\left(-\\infty, 1\\right]", "(-\\infty,1]"),
        ("(1, +\\infty)", "(1,\\infty)"),
        ("f(x) = 2x", "f(x)=x+x"),
        ("P = 12.8", "12.8"),
        ("5 - 5c", "5(1-c)"),
        ("6, 2", "2,6"),
        ("0.333333", "\\frac13"),
        ("x = 5 + 7 = 12", "12"),
    ],
)
def test_the_same_answer_in_another_spelling_is_correct(answer, gold):
    assert grade(boxed(answer), gold) == CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1 1/2", "5.5"),
        ("11/2", "1.5"),
        ("5t", "5"),
        ("5 - 5c", "0"),
        ("10 \\text{ million}", "10"),
        ("6\\text{ dozen}", "6"),
        ("6\\text{ squared}", "6"),
        ("6\\text{ or less}", "6"),
        ("6\\text{ wrong}", "6"),
        ("6\\text{ percent}", "6000"),
        ("6\\mathrm{i}", "6"),
        ("5\\text{ m}", "5\\text{ cm}"),
        ("5\\text{ cm}^2", "5\\text{ cm}^3"),
        ("5\\%", "50"),
        ("0.5\\%", "0.5"),
        ("12,345", "12.345"),
        ("32, 349", "32349"),
        ("32,349", "32, 349"),
        ("100, 200", "100200"),
        ("0,111", "111"),
        ("1,5", "1.5"),
        ("x²", "2x"),
        ("x**2", "2x"),
        ("x \\in [1, 2]", "[1,2)"),
        ("\\text{Odd}", "even"),
        ("listen", "silent"),
        ("v_{1}", "v_0"),
        ("\\sin 90^\\circ", "\\sin 90"),
        ("4.5e33", "4.5e32"),
        ("12.79", "12.8"),
        ("12.0000001", "12"),
        ("f(x) = 2x", "f(x)=3x"),
        ("(2,1)", "(1,2)"),
        ("\\frac{1}{3}", "0.33"),
        ("{3}{4}", "3"),
    ],
)
def test_another_answer_is_wrong_however_alike(answer, gold):
    assert grade(boxed(answer), gold)[0] == 0


@pytest.mark.parametrize(
    "hedge",
    [
        *("13 = 12", "1=2=3=4=5=6=7=8=9=10=11=12", "x = 13 = 12", "13 \\text{ h} = 12", "12 or 13", "12, 13"),
        *("\\{12, 13\\}", "\\pm 12", "x=12 \\text{ or } x=13", "12 \\text{ or } 13", "12 \\text{ (or 13)}"),
        *("13 \\to 12", "13 \\Rightarrow 12", "13 \\\\ 12", "\\begin{cases} 13 \\\\ 12 \\end{cases}"),
        *("\\cancel{13} 12", "13 := 12", "(lambda: 12)()", "print(12)", "int('12')", "12 if True else 13"),
        *("13 \\equiv 12", "13 \\implies 12", "12 \\text{ maybe}", "12 \\text{, or rather 13}"),
        *("[11, 12][1]", "__import__('os') or 12", "\\text{not } 12", "x < 12", "12 \\neq 13", "11-12"),
    ],
)
def test_a_hedge_or_a_program_in_the_box_does_not_score(hedge):
    assert grade(boxed(hedge), "12")[0] == 0


@pytest.mark.parametrize(
    ("response", "gold", "score"),
    [
        ("\\boxed{3} hmm, wait. \\boxed{12}", "12", 1),
        ("\\boxed{12}, no, rather \\boxed{13}", "12", 0),
        ("\\boxed{2} and \\boxed{6}", "2, 6", 1),
        ("\\boxed{11}, \\boxed{12}", "12", 0),
        ("$\\boxed{k = 45} \\quad \\text{and} \\quad \\boxed{n = 2}$", "k=45,n=2", 1),
        ("\\boxed{12}}}", "12", 1),
        ("\\fbox{12}", "12", 1),
        ("\\boxed{\\left\\{ 1, 2 \\right\\}}", "\\{1,2\\}", 1),
        ("\\boxed{\\{1, 2\\}", "\\{1,2\\}", 0),
        ("\\boxed{\\boxed{12}}", "12", 1),
        ("\\boxed{12}" + " \\boxed{13" * 30, "12", 1),
    ],
)
def test_which_box_is_graded(response, gold, score):
    assert grade(response, gold)[0] == score


def test_an_answer_outside_a_box_counts_only_where_the_caller_says_so():
    assert grade("The answer is $\\frac{1}{2}$.", "0.5") == (0.0, "no_answer")
    assert grade("The answer is $\\frac{1}{2}$.", "0.5", require_box=False) == CORRECT


def test_a_box_that_is_empty_or_never_closed_is_no_answer():
    for response in ("\\boxed{12", "\\boxed{}", "the answer is 12"):
        assert grade(response, "12") == (0.0, "no_answer")
    assert grade(boxed("13"), "12") == (0.0, "wrong")


def test_an_empty_label_is_the_callers_error_and_never_a_reward():
    for gold in ("", "  ", "\\boxed{}"):
        assert grade(boxed(""), gold)[0] == 0
        assert grade(boxed("12"), gold) == (0.0, "error")


# ------------------------------------------------------------------ classes of equal answers


def test_plain_answers_are_classed_by_value_without_a_worker(monkeypatch):
    monkeypatch.setattr("rlvr.grading.graders.workers", lambda: pytest.fail("a worker was asked"))
    assert equal_answers(["12", "", " 12.0", None, "13", "012", "12"]) == [0, -1, 0, -1, 1, 0, 0]


def test_answers_equal_in_value_are_one_class():
    answers = ["1/2", "x+1", "\\frac12", "0.5", "1+x", "\\text{Even}", "2, 1", "even", "1,2", "(1,2)", "(2,1)", "50"]
    classes = equal_answers(answers)
    assert classes[:9] == [0, 1, 0, 0, 1, 2, 3, 2, 3]
    assert classes[9] != classes[10] and classes[11] == max(classes)
    assert equal_answers([]) == []


def test_a_hedge_is_no_vote_for_its_last_side():
    assert equal_answers(["13 = 12", "12", "13"]) == [0, 1, 2]


def test_an_answer_beyond_the_limits_is_a_class_of_its_own():
    hostile = "(" * 900 + "1" + ")" * 900
    assert equal_answers([hostile, "y+2", "2+y", hostile, "1"]) == [0, 1, 1, 0, 2]


def test_a_batch_scores_as_one_by_one():
    texts, golds = [boxed("x+1"), "none", boxed("7")], ["1+x", "1", "8"]
    infos = [{}, {}, {"split": "test"}]
    for rule in ("outcome", "format"):
        single = [
            compute_score("train", text, gold, info, rule=rule)
            for text, gold, info in zip(texts, golds, infos, strict=True)
        ]
        assert compute_scores(["train"] * 3, texts, golds, infos, rule=rule) == single
    assert [row["score"] for row in single] == [1, 0, 0]


def test_a_test_row_is_judged_up_to_its_stop_text_and_a_training_row_to_its_end():
    runs_on = boxed("7") + "<|im_end|>\nNext: " + boxed("8")
    sampling = {"sampling": {"stop": ["</s>", "<|im_end|>"]}}
    assert compute_score("math500", runs_on, "7", {"split": "test"} | sampling)["score"] == 1
    assert compute_score("math500", runs_on, "7", {"split": "test", "sampling": {"n": 1}})["score"] == 0
    assert compute_score("train", runs_on, "8", {"index": 0})["score"] == 1


def test_the_format_rule_rewards_any_answer_in_training_and_none_in_evaluation():
    wrong = {"data_source": "train", "solution_str": "\\boxed{7}", "ground_truth": "12"}
    assert compute_score(**wrong, rule="outcome")["score"] == 0
    assert compute_score(**wrong, rule="format")["score"] == 1
    assert compute_score(**wrong, rule="format")["acc"] == 0
    assert compute_score(**wrong, extra_info={"split": "test"}, rule="format")["score"] == 0
    unboxed = {**wrong, "solution_str": "it is 12"}
    assert compute_score(**unboxed, rule="format")["score"] == 0


# ------------------------------------------------------------------ hostile input


@pytest.mark.parametrize(
    "response",
    [
        boxed("9^{9^{9^{9}}}"),
        boxed("2^{10^9}"),
        boxed("(10^7)!"),
        boxed("7" * 100_000),
        boxed("1+" * 50_000 + "1"),
        "\\boxed{" * 14_000,
        "\\boxed " * 14_000,
        "\\" * 100_000,
        "\\boxed{1}" * 14_000 + "\\boxed{",
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_answer_costs_little(response):
    grade(boxed("x"), "y")  # starts the worker
    started = time.perf_counter()
    score, reason = grade(response, "12")
    assert time.perf_counter() - started < 20  # 2.5 s of processor time; machines may be busy
    assert score == 0 and reason in ("unparsable", "no_answer", "timeout", "wrong")


def test_an_answer_that_takes_too_long_is_stopped_beside_an_ordinary_one():
    grade(boxed("x"), "y")
    hostile = boxed("(" * 900 + "1" + ")" * 900)
    started = time.perf_counter()
    verdicts = grade_many([hostile, boxed("x+2")], ["12", "2+x"])
    assert verdicts == [(0.0, "timeout"), CORRECT]
    assert time.perf_counter() - started < 20  # 2.5 s of processor time; machines may be busy
    assert grade(boxed("y+2"), "2+y") == CORRECT


def test_a_worker_that_somebody_kills_is_replaced():
    grade(boxed("x"), "y")
    before = [worker.process.pid for worker in workers().started]
    for worker in workers().started:
        os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
    assert grade(boxed("z+1"), "1+z") == CORRECT
    assert [worker.process.pid for worker in workers().started] != before


def test_threads_share_the_workers():
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda i: grade(boxed(f"{i}+q"), f"q+{i}"), range(24)))
    assert verdicts == [CORRECT] * 24


def test_workers_import_no_main_and_end_with_their_caller(tmp_path):
    script = tmp_path / "main_without_guard.py"
    script.write_text(
        "import sys\nprint('imported', flush=True)\nfrom rlvr.grading import grade\n"
        "assert grade('\\\\boxed{x+1}', '1+x') == (1.0, 'correct')\n"
        "from rlvr.grading.workers import workers\nprint(workers().started[0].process.pid, flush=True)\n"
        "assert not {'sympy', 'torch', 'ray'} & set(sys.modules)\nimport os; os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported, pid = done.stdout.split()
    assert imported == "imported"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the worker outlived its caller"
        time.sleep(0.05)


def test_a_system_without_linux_calls_grades_all_the_same(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, resource\ndel os.sched_getaffinity\nset_limit = resource.setrlimit\n"
        "def as_on_macos(which, limits):\n"
        "    if which == resource.RLIMIT_AS: raise ValueError('current limit exceeds maximum limit')\n"
        "    set_limit(which, limits)\n"
        "resource.setrlimit = as_on_macos\n"
    )
    script = "from rlvr.grading import grade\nassert grade('\\\\boxed{x+1}', '1+x') == (1.0, 'correct')"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PIECES = st.sampled_from(
    [
        "\\boxed{",
        "\\fbox{",
        "}",
        "{",
        "(",
        ")",
        "[",
        "]",
        "\\frac{1}{2}",
        "\\sqrt",
        "12",
        "13",
        "x",
        "y",
        "=",
        ",",
        "\\text{or}",
        "^",
        "_",
        "^{9}",
        "!",
        "\\%",
        "%",
        "$",
        "\\le",
        "\\cup",
        "\\infty",
        "\\\\",
        "&",
        "\\pm",
        "é",
        "√",
        "²",
        "1.5",
        "-",
        "+",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join)), st.sampled_from(["12", "x^2", "(1,2)"])
)
def test_grading_never_raises_and_never_hangs(text, gold):
    for response in (text, boxed(text)):
        started = time.perf_counter()
        score, reason = grade(response, gold)
        assert reason in REASONS and score == (reason == "correct")
        assert time.perf_counter() - started < 20  # 2.5 s of processor time; machines may be busy


@given(st.text(alphabet="\\boxed{} a", max_size=40))
def test_the_last_box_is_a_part_of_the_text_with_matched_braces(text):
    content = last_boxed(text)
    assert content is None or content in text
    balanced = "".join(c for c in text if c not in "{}\\")
    assert last_boxed(f"{text} \\boxed{{{balanced}}}") == balanced


# ------------------------------------------------------------------ labels


LABELS = r"""12 | -\frac{7}{3} | 12.8 | 3\sqrt{2} | 2\pi | 1.5 \times 10^{-3} | 45^\circ | 60^{\circ} | \$4.50 | 30\% | 10,080
\left( 2, \frac{\pi}{3} \right) | (1,2,3) | 1,-2 | \{1,2\} | (-\infty,4] | [0,1) \cup (2,3] | x \in [1,2) | 4 \text{ cm} | 6\text{ m}^2
\text{Monday} | \text{odd} | \text{(C)} | p - q | x^3+2x-7 | y=3x+1 | f(x)=x^2 | \frac{1}{2 n+1} | 2^{n-1} | \binom{n}{2} | n! | 1-e^{-t}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | 11_2 | 3+4i | \ln 2 | v_{0} t | \arctan\frac{1}{2} | A \cos(\omega t) | \frac{m g}{k}"""


def test_every_kind_of_label_answers_itself():
    labels = [label.strip() for line in LABELS.splitlines() for label in line.split(" | ")]
    verdicts = grade_many([boxed(label) for label in labels], labels)
    assert [label for label, verdict in zip(labels, verdicts, strict=True) if verdict != CORRECT] == []
