"""When and where a job runs."""
