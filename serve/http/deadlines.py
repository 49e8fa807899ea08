"""Time limits for the arrival of a request and the beginning of its answer."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.problems import Problem, answer_problem


class Deadlines:
    """Answers 408 where a body does not arrive in time, and 504 where no answer begins in time.

    An answer that has begun has no limit: event streams have no end.

    Args:
        app: The application behind this middleware.
        body_seconds: From the beginning of the request to the end of its body.
        answer_seconds: From the beginning of the request to the beginning of its answer.
    """

    def __init__(self, app: ASGIApp, body_seconds: float, answer_seconds: float) -> None:
        self.app = app
        self.body_seconds = body_seconds
        self.answer_seconds = answer_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under both limits."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body_until = asyncio.get_running_loop().time() + self.body_seconds
        is_complete = False

        async def receive_in_time() -> Message:
            nonlocal is_complete
            if is_complete:
                return await receive()  # until the client leaves
            try:
                async with asyncio.timeout_at(body_until):
                    message = await receive()
            except TimeoutError:
                sentence = f"The request's body did not arrive within {self.body_seconds:g} s."
                raise HTTPException(408, sentence) from None
            is_complete = not message.get("more_body", False)
            return message

        try:
            async with asyncio.timeout(self.answer_seconds) as waiting:

                async def send_and_note(message: Message) -> None:
                    waiting.reschedule(None)
                    await send(message)

                await self.app(scope, receive_in_time, send_and_note)
        except TimeoutError:
            if not waiting.expired():
                raise
            sentence = f"There was no answer within {self.answer_seconds:g} s."
            await answer_problem(scope, Problem(504, "no_answer_in_time", sentence))(scope, receive, send)
