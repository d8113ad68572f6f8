"""The ground: settings, database, migrations, embedded servers and child processes."""
