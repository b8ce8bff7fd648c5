"""mcsdns: a DNS server for the Kubernetes Multi-Cluster Services API."""

__version__ = "0.1.0"
