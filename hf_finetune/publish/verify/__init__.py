"""The saved model is loaded again in a fresh process, and must answer as it did."""
