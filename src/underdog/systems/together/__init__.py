"""Several models that answer together: a vote, one model asked many times, a debate, a cascade, learned weights."""
