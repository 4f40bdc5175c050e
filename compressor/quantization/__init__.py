"""Integers in place of floats: the plan, its simulation, its calibration."""
