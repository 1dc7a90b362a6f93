"""What imports nothing of the package: cached files, packs of kernels, forks, devices' names, Toom-Cook matrices."""
