"""OpenAI's Images API (https://platform.openai.com/docs/api-reference/images) over the same queue."""
