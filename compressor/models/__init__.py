"""The architectures, their weights and their edits: read, write, rebuild."""
