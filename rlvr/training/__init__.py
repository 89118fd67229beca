"""From a checked config to a finished run folder, with verl's trainer. The only package that loads Ray and verl's trainer."""
