"""What several of the GPU's algorithms share."""
