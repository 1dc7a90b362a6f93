"""Which algorithm runs: the tables' algorithms compared by their costs, measured, and remembered."""
