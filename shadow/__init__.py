"""Both systems side by side on the same ticks: run, observe, compare, keep."""
