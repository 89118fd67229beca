"""The second tiny world, ready to take the place of rlvr/tiny: problems within and beyond reach, habits decided at one token,
a base model calibrated on Qwen2.5-Math-1.5B's own documented statistics. No reinforcement learning has been run on it:
the calibration (experiments/results/tiny_v2_calibration.csv, model/README.md) stands before any of that.
"""
