"""What the benchmark scripts share: paired runs, the sides that are compared, and what they run on."""
