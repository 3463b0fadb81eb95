"""Waiting and taking turns, on virtual time."""
