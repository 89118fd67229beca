"""Behind `python -m rlvr.evaluate`: engines that answer, samples on disk, metrics over them, prompting baselines.

`metrics` is pure numpy; `engines` is the one module that loads torch or vLLM.
"""
