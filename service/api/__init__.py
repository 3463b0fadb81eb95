"""Speaks HTTP to our callers."""
