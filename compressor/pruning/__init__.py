"""Removing channels: what depends on what, and what to do where that cannot be found out."""
