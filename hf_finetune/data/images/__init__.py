"""Decoding, the pixel cache, augmentation."""
