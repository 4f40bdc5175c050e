"""What is done to a model. Usable from a notebook: no queue, no HTTP, no database."""
