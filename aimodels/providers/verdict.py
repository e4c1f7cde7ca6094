"""Trying a model once, for the people who configure it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aimodels.providers.base import (
    BadRequest,
    Provider,
    ProviderError,
    ProviderRefused,
    Request,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial call showed.

    ``outcome`` is "works" | "key_refused" | "no_access" | "out_of_quota" | "unreachable" |
    "bad_request"; ``seconds`` is the time of the whole call.
    """

    outcome: str
    message: str
    seconds: float
    tokens: Usage = Usage()  # noqa: RUF009 # frozen

    @property
    def works(self) -> bool:
        return self.outcome == "works"


def check(provider: Provider) -> Verdict:
    """Ask the model for one word; every failure is a verdict, never an error."""
    request = Request(
        system=("Answer with one word.",),
        history=(provider.user_turn("Say OK."),),
        max_output_tokens=64,
    )
    started = time.monotonic()
    outcome, message, tokens = _try(provider, request)
    return Verdict(outcome, message, round(time.monotonic() - started, 3), tokens)


def _try(provider: Provider, request: Request) -> tuple[str, str, Usage]:
    try:
        reply = provider.complete(request)
    except ProviderRefused as error:
        return error.reason, str(error), Usage()
    except BadRequest as error:
        return "bad_request", str(error), Usage()
    except ProviderError as error:
        return "unreachable", str(error), Usage()
    return "works", "The model answered.", reply.usage
