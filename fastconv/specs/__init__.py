"""What a call means: its arguments checked once into a frozen spec. NumPy only."""
