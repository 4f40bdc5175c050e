"""What the processes say to each other: values, and nothing that does work."""
