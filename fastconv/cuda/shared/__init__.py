"""Code that several of the GPU's algorithms share."""
