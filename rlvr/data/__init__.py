"""What is asked and trained on: pools, own examples, labels, prompts, and the protocols of the benchmarks."""
