"""Independent implementations in NumPy float64, written from the definitions."""
