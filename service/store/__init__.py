"""Speaks SQL, and nothing else does."""
