"""Predictions for held-out rows and for files of rows without labels."""
