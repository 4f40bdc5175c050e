"""What we measure, against whom, by one command: `python -m benchmarks` writes RESULTS.md."""
