"""Trying a model once, for the people who configure it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aimodels.providers.base import BadRequest, Provider, ProviderError, ProviderRefused, Request


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial call showed.

    ``outcome`` is "works" | "key_refused" | "no_access" | "out_of_quota" | "unreachable" |
    "bad_request"; ``seconds`` is the time of the whole call.
    """

    outcome: str
    message: str
    seconds: float

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
    outcome, message = _try(provider, request)
    return Verdict(outcome, message, round(time.monotonic() - started, 3))


def _try(provider: Provider, request: Request) -> tuple[str, str]:
    try:
        provider.complete(request)
    except ProviderRefused as error:
        return error.reason, str(error)
    except BadRequest as error:
        return "bad_request", str(error)
    except ProviderError as error:
        return "unreachable", str(error)
    return "works", "The model answered."
