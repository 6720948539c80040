"""Many actions as one job: in order, at the quota's pace, resumable."""
