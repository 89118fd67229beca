"""`python -m rlvr.evaluate`: engines that generate answers, answers on disk, metrics over them, prompting baselines.

`metrics` is pure numpy; `inference_engines` is the one module that loads torch or vLLM.
"""
