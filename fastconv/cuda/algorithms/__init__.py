"""The GPU's algorithms: each module follows the contract in `fastconv.planner.contract`."""
