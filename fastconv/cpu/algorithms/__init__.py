"""The CPU's algorithms: each module keeps the contract that `fastconv.cpu` tells."""
