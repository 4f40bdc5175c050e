"""The deployment formats, one file each: write it, load it back, run it."""
