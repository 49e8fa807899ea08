"""The records of jobs, images and API keys, and the errors about them."""
