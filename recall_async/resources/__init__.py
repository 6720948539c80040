"""The API's resources: one class each, one method per operation."""
