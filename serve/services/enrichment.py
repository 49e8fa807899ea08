"""Writes short prompts out, by a language model behind a chat endpoint in OpenAI's form.

https://platform.openai.com/docs/api-reference/chat/create, as llama.cpp, Ollama, vLLM and others have it too.
"""

from __future__ import annotations

import logging
from typing import Any

import httpx

from deployments.settings.dialects import EnrichSettings
from serve.errors import ApiError

logger = logging.getLogger(__name__)

_TASK = (
    "You write prompts for a text-to-image model. Rewrite what the user wants to see as one prompt: name the subject, "
    "the setting, light, colours and composition in concrete words, at most 80 of them, and keep everything the user "
    "named. Answer with the prompt alone, without quotation marks."
)
_MOST_TOKENS = 400
_LONGEST_ANSWER = 64 * 1024


class NoEnrichmentError(ApiError):
    """No language model is configured (enrich.base_url and enrich.model), so prompts are taken as they are written."""

    status = 503
    code = "enrich_not_configured"


class EnrichmentFailedError(ApiError):
    """The language model gave no prompt; its log and this service's say why. The prompt can be used as it is."""

    status = 502
    code = "enrich_failed"


class Enricher:
    """Asks the language model.

    Args:
        settings: Where it is.
        transport: In place of the network.
    """

    def __init__(self, settings: EnrichSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport

    @property
    def is_configured(self) -> bool:
        """Whether there is a language model."""
        return bool(self._settings.base_url and self._settings.model)

    async def enrich(self, prompt: str, style: str | None) -> str:
        """Return a prompt written out.

        Args:
            prompt: What somebody wants to see.
            style: In which style; None for any.

        Raises:
            NoEnrichmentError: No language model is configured.
            EnrichmentFailedError: It did not answer in time, or not with a prompt.
        """
        settings = self._settings
        if not self.is_configured:
            raise NoEnrichmentError
        wish = prompt if style is None else f"{prompt}\nStyle: {style}"
        messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": wish}]
        body = {"model": settings.model, "messages": messages, "max_tokens": _MOST_TOKENS}
        headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        url = f"{(settings.base_url or '').rstrip('/')}/chat/completions"
        try:
            async with httpx.AsyncClient(transport=self._transport, timeout=settings.timeout_seconds) as http:
                response = await http.post(url, json=body, headers=headers)
            response.raise_for_status()
            text = _text_in(response.json())
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            logger.warning("The language model of enrich.base_url gave no prompt: %s", error)
            raise EnrichmentFailedError from error
        return text


def _text_in(answer: Any) -> str:
    text = str(answer["choices"][0]["message"]["content"] or "").strip().strip('"').strip()
    if not text or len(text) > _LONGEST_ANSWER:
        raise ValueError("the answer is empty or endless")
    return text
