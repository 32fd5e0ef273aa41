"""Shared by the benchmark scripts: paired runs, the sides that are compared, and their workloads."""
