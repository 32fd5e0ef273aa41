"""Find columns, encode labels, and find unusable and duplicate rows."""
