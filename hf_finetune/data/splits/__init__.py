"""Training, validation and test rows: splitting, folds, groups and time, streams, and the split file."""
