"""The tiny world: problems within and beyond reach, habits decided at one token, and a base model calibrated on
Qwen2.5-Math-1.5B's own documented statistics. The calibration (experiments/results/tiny_v2_calibration.csv,
model/README.md) was fixed before any reinforcement learning.
"""
