"""The deployment of one model: from a claimed job to stored images."""
