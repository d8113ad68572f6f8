"""The schema's history: one linear line of revisions, made by Alembic."""

# The newest revision, for those who only want to know whether a database is at it; a test holds it to the files.
HEAD = "0008_hidden"
