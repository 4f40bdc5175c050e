"""How you ask: the HTTP side."""
