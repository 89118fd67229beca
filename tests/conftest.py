"""Two test processes share the machine: each keeps to a core of its own, and so do the runs that it starts.

A run takes as many threads as it may use cores; two runs with two threads each take many times as long on two cores.
"""

import os

import pytest


def pytest_configure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})


def pytest_collection_modifyitems(items):
    """What trains comes first: at the end one core would wait for the other."""
    items.sort(key=lambda item: item.path.parent.name != "training")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Generated data in the authors' format."""
    import authors_data

    return authors_data.write(tmp_path_factory.mktemp("authors") / "data")
