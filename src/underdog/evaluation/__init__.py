"""Scores, numbers with their doubt, and cost."""
