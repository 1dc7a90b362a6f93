"""Modules that import no other part of fastconv: cached files, packs of kernels, forks, devices, Toom-Cook, units."""
