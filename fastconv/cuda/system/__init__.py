"""Compiling and launching kernels, streams, and arrays on the device and on the host."""
