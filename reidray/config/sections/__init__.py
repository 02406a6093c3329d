"""The sections of configurations, checked on their own."""
