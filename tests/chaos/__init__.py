"""Chaos: real processes, killed, stopped and cut off at random; the ground truth compared."""
