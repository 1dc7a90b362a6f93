"""The GPU's algorithms: each module keeps the contract that `fastconv.cuda` tells."""
