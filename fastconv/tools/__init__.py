"""Applications of the rest: the command line, comparisons, the demonstration."""
