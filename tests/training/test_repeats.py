"""The same command on the same machine gives the same run, number for number, also with two threads."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics

# 64 responses to one prompt: enough for torch to share the sums of the backward pass between threads.
SMALL = ["scale.benchmarks=[tiny500]", "+benchmarks.tiny500.limit=8", "scale.prompts_per_step=8", "scale.steps=3"]
SMALL += ["scale.samples_per_prompt=8", "scale.evaluate_every=3", "scale.save_every=3", "variant=small", "tracking=off"]


@pytest.mark.timeout(900)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two threads need two cores")
def test_two_runs_have_the_same_numbers(tmp_path, request):
    found = []
    for name in ("first", "second"):
        command = [sys.executable, "run.py", "+experiment=one_shot", *SMALL, f"runs_dir={tmp_path / name}"]
        if hasattr(os, "sched_setaffinity"):  # a test process keeps to one core (tests/conftest.py), these runs do not
            command = [sys.executable, "-c", TWO_CORES, *command]
        done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = RunFolder(tmp_path / name / "tiny" / "tiny" / "one_shot-small" / "seed0")
        found.append(read_metrics(folder.metrics_path))
    numbers = [column for column in found[0] if not column.startswith("time/")]
    assert {"actor/grad_norm", "actor/entropy", "train/reward", "eval/tiny500/accuracy"} <= set(numbers)
    pd.testing.assert_frame_equal(found[0][numbers], found[1][numbers], check_exact=True)


TWO_CORES = "import os, sys; os.sched_setaffinity(0, range(os.cpu_count())); os.execv(sys.argv[1], sys.argv[1:])"
