"""Before anything starts: is it the paper's, does it fit, can it work? Loads neither torch nor ray."""
