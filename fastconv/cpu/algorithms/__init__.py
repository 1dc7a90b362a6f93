"""The CPU's algorithms: each module keeps the contract of `fastconv.planner.contract`."""
