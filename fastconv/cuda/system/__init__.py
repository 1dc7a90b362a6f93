"""How kernels are compiled and launched, streams, and arrays on the device and on the host."""
