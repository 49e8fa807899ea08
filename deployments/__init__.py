"""The cluster behind the edge: model deployments, the job tracker, and what they stand on."""
