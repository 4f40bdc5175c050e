"""Labelled images, from files nobody trusts."""
