"""What a row of a task holds: one folder an input."""
