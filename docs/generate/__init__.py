"""What writes pages of the documentation from the package itself, so that they cannot fall behind it."""
