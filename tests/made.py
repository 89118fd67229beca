"""Samples files made by hand: the columns that matter to a test, the others filled."""

from rlvr.runs.samples import CHOICES, SCHEMA

FILLED = {"int64": 0, "string": "", "float64": 0.0, "bool_": False}


def sample_columns(**given) -> dict:
    """All columns of the schema; those not given hold one plain value."""
    rows = len(next(iter(given.values())))
    ids = [f"p{i}" for i in range(rows)]
    filled = {name: [FILLED[kind]] * rows for name, kind in SCHEMA.items() if name not in CHOICES}
    return filled | {"id": ids} | given
