"""Register tiles and vector instructions: what emits LLVM IR, each with its twin in plain loops."""
