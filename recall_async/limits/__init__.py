"""Quotas: when a request may be sent."""
