"""Every method, one file each; `compressor.method` finds them by name."""
