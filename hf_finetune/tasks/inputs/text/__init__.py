"""One text a row, or a pair of them."""
