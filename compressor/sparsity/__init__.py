"""Zeros in place: what a weight is worth, which go together, how many go, and when."""
