"""Two test processes share the machine: each keeps to a core of its own, and so do the runs that it starts.

A run takes as many threads as it may use cores; two runs with two threads each take many times as long on two cores.
"""

import os

import pytest

# What takes many minutes, or needs what no package brings: such a test runs where its variable is set.
ON_REQUEST = {
    "NODES": "a Ray cluster of two nodes, trains three times",
    "REAL_RUNS": "Slurm with real training",
    "RLVR_TUTORIAL": "all commands of docs/adapt.md",
    "RLVR_VLLM_PYTHON": "an interpreter with vLLM's CPU build",
    "RLVR_AXE": "the file axe.min.js, for the accessibility of the report's page",
}


def pytest_configure(config):
    config.addinivalue_line("markers", "on_request(variable): runs only where this environment variable is set")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})


def pytest_collection_modifyitems(config, items):
    """What trains comes first: at the end one core would wait for the other."""
    off = [item for item in items if not all(os.environ.get(m.args[0]) for m in item.iter_markers("on_request"))]
    config.hook.pytest_deselected(items=off)
    items[:] = [item for item in items if item not in off]
    items.sort(key=lambda item: item.path.parent.name != "training")


def pytest_terminal_summary(terminalreporter):
    for variable, what in ON_REQUEST.items():
        if not os.environ.get(variable):
            terminalreporter.write_line(f"not asked for: {variable} ({what})")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Generated data in the authors' format."""
    import authors_data

    return authors_data.write(tmp_path_factory.mktemp("authors") / "data")
