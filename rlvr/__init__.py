"""One-shot RLVR: what verl does not already do.

Configuration, example pools, graders, run folders, the trainer's launch, and verl on a CPU (`rlvr.verl_torch`).
Imports neither `run`, `experiments` nor `analysis`; importing this package loads nothing else.
"""
