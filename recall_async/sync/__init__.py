"""Keeping bots where they belong: what should be, what is, and the requests that make up the difference."""
