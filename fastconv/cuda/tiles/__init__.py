"""Tiles of matrix products, in registers and on tensor cores, and intrinsics for PTX instructions."""
