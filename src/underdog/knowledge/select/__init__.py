"""What to learn from: rationales cleaned by named filters, one chosen for each question, or shuffled as a control."""
