"""Compiling kernels in advance, on all cores."""
