"""Problems for training and testing: pools, the user's own examples, labels, prompts, benchmark protocols."""
