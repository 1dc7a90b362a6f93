"""The planner decides which algorithm runs: it compares estimated costs, measures, and remembers what it measured."""
