"""Trying candidates smallest first, confirming finalists on the sealed test set, and the verdict."""
