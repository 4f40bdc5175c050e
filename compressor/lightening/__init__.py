"""Lighter layers of the same function: what they are made of, and how they are fitted to those they stand for."""
