"""Outputs: the kinds of label, each with its losses, its metrics and the answers that it gives."""
