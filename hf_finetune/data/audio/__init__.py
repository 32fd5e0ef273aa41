"""Decoding, resampling and random views of recordings."""
