"""What a run in bf16 is told about the processor that it is to run on."""

import re

import pytest

from rlvr.config.compose import compose
from rlvr.config.schema import check
from rlvr.planning import machine
from rlvr.planning.plan import plan


def devices(hardware: str) -> machine.Devices:
    cfg = compose("+experiment=one_shot", f"hardware={hardware}")
    check(cfg)
    return plan(cfg, download=False).devices


@pytest.mark.parametrize(
    ("speed", "note"),
    [
        (5.2, "^bf16: this processor multiplies matrices 5.2 times as fast as in fp32"),
        (0.25, "^warning: hardware=cpu_bf16: .* in bf16 4 times slower than in fp32.*hardware=cpu is faster"),
    ],
)
def test_the_speed_of_bf16_is_told(speed, note, monkeypatch):
    monkeypatch.setattr(machine, "fp32_flops", lambda: 1e11)
    monkeypatch.setattr(machine, "bf16_flops", lambda: speed * 1e11)
    (found,) = machine.processor_notes(devices("cpu_bf16"))
    assert re.search(note, found)


def test_the_estimate_takes_the_measured_speed(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "bf16_flops", lambda: 3e11)
    monkeypatch.setattr(machine, "fp32_flops", lambda: 1e11)
    flops = [machine.this_machine(devices(hardware), tmp_path).cpu_flops for hardware in ("cpu", "cpu_bf16")]
    assert flops == [1e11, 3e11]


def test_the_speed_of_bf16_is_measured():
    assert 1e8 < machine.bf16_flops() < 1e15


def test_fp32_is_told_nothing():
    assert machine.processor_notes(devices("cpu")) == []
