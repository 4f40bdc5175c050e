"""What calibration keeps of an activation while batches go by, and the range that it makes of it."""
