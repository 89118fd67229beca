"""The tiny world: short word problems, an able but unreliable base model, and the script that pretrains it.

`datasets.load` gives the example pool and the benchmarks; `model/` holds the weights and the tokenizer.
"""
