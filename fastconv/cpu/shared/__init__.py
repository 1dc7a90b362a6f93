"""What several algorithms share, in Numba's Python."""
