"""Her own services."""
