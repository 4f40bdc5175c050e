"""A job's figures as files: for programs, for people, as pictures."""
