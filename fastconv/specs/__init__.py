"""Specs: a call's arguments, checked once and put into a frozen object. These modules import only NumPy."""
