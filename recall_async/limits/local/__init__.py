"""A quota kept in this process."""
