"""Loops and layouts that several algorithms share, in Numba's Python."""
