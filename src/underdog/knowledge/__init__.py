"""What teachers said, kept for learning from."""
