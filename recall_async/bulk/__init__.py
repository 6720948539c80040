"""Bulk jobs: many actions, in order, at the quota's pace, resumable."""
