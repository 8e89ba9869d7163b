"""Small pure functions that the models are made of, one subject a file."""
