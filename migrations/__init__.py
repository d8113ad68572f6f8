"""One linear history of the schema."""
