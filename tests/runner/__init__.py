"""What `tests/run` is made of: stages, how they run, and what must not be left behind."""
