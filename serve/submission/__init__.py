"""From a request to a job, and to its images."""
