"""Metrics that compute offline, predictions in any number of processes, the results of a run."""
