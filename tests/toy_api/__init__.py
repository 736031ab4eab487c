"""A third API: jobs that fail once and can be retried."""
