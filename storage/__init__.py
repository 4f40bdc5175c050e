"""Where the processes keep things: rows in SQL, bytes under their digest. No torch, no web."""
