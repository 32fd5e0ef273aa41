"""Answers of a model: for held-out rows, for files of rows without labels."""
