"""The CyberImage dialect: submit a job, follow it, fetch its images."""
