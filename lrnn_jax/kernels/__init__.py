"""Pure functions that the models are built from; each module covers one subject."""
