"""What holds for every test run."""

pytest_plugins = ["tests.skips"]
