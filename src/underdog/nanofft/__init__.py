"""The feed-forward-in-time family: models, two-character tokens, and the corpora they learn from."""
