"""Learning a folder of texts: from a file that says what and how to a model folder and its figures."""
