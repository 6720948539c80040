"""Quotas stored in this process."""
