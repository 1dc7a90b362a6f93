"""Kernels compiled in advance, on all cores."""
