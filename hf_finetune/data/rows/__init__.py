"""Columns, labels, unusable rows and duplicates."""
