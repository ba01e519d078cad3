"""What the user wants: the task file, its examples, its prompt and its splits."""
