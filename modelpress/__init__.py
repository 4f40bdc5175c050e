"""How you ask from Python and from a shell."""
