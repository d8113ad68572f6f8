"""Reports: from stored comparisons to what people read."""
