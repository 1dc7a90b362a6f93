"""Register tiles and vector instructions, which emit LLVM IR; each tile has a twin in plain loops."""
