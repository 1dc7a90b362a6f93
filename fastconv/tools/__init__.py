"""Applications of the package: the command line, the comparison of algorithms, and the demonstration."""
