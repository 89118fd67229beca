"""From a checked config to a finished run folder, with verl's trainer. The one room that loads ray and verl."""
