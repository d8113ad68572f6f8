"""Examples: a planted defect, and the demonstration that finds it."""
