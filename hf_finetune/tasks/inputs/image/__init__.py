"""One image a row."""
