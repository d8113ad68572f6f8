"""The being's old system."""
