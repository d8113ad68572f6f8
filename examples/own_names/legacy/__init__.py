"""Her old system. Tickover has a package of this name too; hers is the one that runs."""
