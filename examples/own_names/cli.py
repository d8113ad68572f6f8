"""Her own command line."""

raise SystemExit("her own command line ran, where Tickover's was meant")
