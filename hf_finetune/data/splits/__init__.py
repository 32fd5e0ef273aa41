"""Training, validation and test rows: dividing, folds, groups and time, the file of splits."""
