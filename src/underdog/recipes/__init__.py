"""How a student is taught: from examples and knowledge to layouts that the training loop learns."""
