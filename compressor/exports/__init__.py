"""The deployment formats: `NAME.py` writes one, `NAME_runtime.py` loads it back and runs it."""
