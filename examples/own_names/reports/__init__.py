"""Her own reports."""
