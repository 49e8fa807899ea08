"""From a catalog entry to a pipeline on its device: loading, tuning, tasks, LoRAs, prompts."""
