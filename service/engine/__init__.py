"""Drives pairings: claims them, runs both sides at once, verifies, records every step.

Knows the store and the appliances only through ``ports``, because both have a second self in
simulation; uses no clock but the event loop's.
"""
