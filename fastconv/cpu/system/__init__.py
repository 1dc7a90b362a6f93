"""The machinery that compiles kernels, keeps them on disk, starts them on threads, and gives them memory."""
