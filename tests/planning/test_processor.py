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
    ("flags", "said"),
    [
        (("avx512f", "avx512_bf16", "amx_bf16"), None),
        (("avx2", "avx512f", "avx512_bf16"), "no AMX.* about 1.6 times slower than in fp32.*hardware=cpu is faster"),
        (("avx2",), "about 8 times slower"),
        ((), "about 8 times slower"),
    ],
)
def test_a_processor_without_bf16_is_said_to_be_slower(flags, said):
    notes = machine.processor_notes(devices("cpu_bf16"), frozenset(flags))
    assert len(notes) == (said is not None)
    if said is not None:
        assert re.search(said, notes[0])


def test_fp32_is_told_nothing():
    assert machine.processor_notes(devices("cpu"), frozenset()) == []
