"""Small models in a chain: one base in memory, and one LoRA adapter for each step (FSLM, arXiv 2410.15570)."""
