"""Data modules by name."""
