"""sitepair: pairs VMware Cloud Director Availability appliances."""

__version__ = "0.1.0"
