"""Laying questions out for a model so that no prompt is paid for twice, and answering them."""
