"""Ways of making a model smaller: fewer layers, fewer tokens, narrower layers."""
