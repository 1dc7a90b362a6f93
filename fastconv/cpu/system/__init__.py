"""How kernels are compiled, kept on disk, started on threads, and given memory."""
