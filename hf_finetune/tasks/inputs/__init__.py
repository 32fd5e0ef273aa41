"""The kinds of input, one folder each."""
