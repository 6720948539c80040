"""Quotas: what may be sent when."""
