"""Her own package of a name that Tickover uses too. Importing it in a runner would break that."""

OWNER = "hers"
