"""The store, on real PostgreSQL."""
