"""AUTOMATIC1111's API (``modules/api/`` of its stable-diffusion-webui) over the same queue."""
