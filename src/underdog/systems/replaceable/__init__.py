"""A frozen LLM, shared by many, and small models beside it that turn its predictions towards a task, and can be swapped."""
