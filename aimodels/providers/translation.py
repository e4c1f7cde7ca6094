"""Every SDK error becomes one of ``base``'s here. Both SDKs have the same tree of errors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx2

from aimodels.providers.base import (
    BadRequest,
    ContextOverflow,
    MalformedReply,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
)
from aimodels.providers.wire import Draft

MESSAGE_CHARACTERS = 500

OVERFLOW = re.compile(
    r"context_length_exceeded|maximum context length|context (window|length|size)|prompt is too long"
    r"|input is too long|too many (input )?tokens|exceeds the (maximum|model's) .{0,40}tokens"
    r"|input token count .{0,40}exceeds",
    re.IGNORECASE,
)
NO_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|credit balance is too low|billing_error"
    r"|billing_hard_limit|insufficient (balance|credits|funds)|out of credits",
    re.IGNORECASE,
)
BAD_KEY = re.compile(
    r"api key not valid|(invalid|incorrect) api key|invalid x-api-key", re.IGNORECASE
)


@contextmanager
def translated(sdk: ModuleType, key: str, draft: Draft, request_bytes: int) -> Iterator[None]:
    """Translate whatever the SDK raises inside; ``draft`` tells how far the answer came."""
    try:
        yield
    except ProviderError:
        raise
    except sdk.APIStatusError as error:
        raise _of_status(error, key, draft) from None
    except (sdk.APIError, httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        raise _of_connection(error, key, draft, request_bytes) from None
    except (ValueError, TypeError, KeyError, AttributeError, LookupError, RecursionError) as error:
        usage = draft.known_usage(request_bytes)
        detail = _shown(f"{type(error).__name__}: {error}", key)
        raise MalformedReply(f"The answer could not be read ({detail}).", usage=usage) from None


def _of_status(error: Any, key: str, draft: Draft) -> ProviderError:
    status = int(getattr(error, "status_code", 0))
    message = _shown(_message(error), key)
    searched = f"{message} {_codes(error)}"
    if status == 402 or (status in (400, 403, 429) and NO_QUOTA.search(searched)):
        return ProviderRefused(message, reason="out_of_quota")
    if status == 413 or (status in (200, 400, 422) and OVERFLOW.search(searched)):
        return ContextOverflow(message)
    if status == 401 or (status in (400, 403) and BAD_KEY.search(searched)):
        return ProviderRefused(message, reason="key_refused")
    if status in (403, 404):
        return ProviderRefused(message, reason="no_access")
    if draft.has_begun or status in (408, 409, 429, 499) or status >= 500:
        wait = retry_after(getattr(error, "response", None))
        return ProviderBusy(message, retry_after=wait, is_sent=draft.has_begun)
    return BadRequest(message)


def _of_connection(error: Any, key: str, draft: Draft, request_bytes: int) -> ProviderError:
    """Tell a lost connection: before the answer began it is tried again later, after that it is cut."""
    message = _shown(str(error) or type(error).__name__, key)
    if _is_error_event(error):
        if OVERFLOW.search(f"{message} {_codes(error)}"):
            return ContextOverflow(message)
        return ProviderBusy(message, is_sent=True)
    if draft.has_begun:
        usage = draft.known_usage(request_bytes)
        return MalformedReply(f"The answer was cut off ({message}).", usage=usage)
    cause = error.__cause__ or error
    is_sent = not isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
    )
    return ProviderBusy(message, is_sent=is_sent)


def _is_error_event(error: Any) -> bool:
    """Tell whether the provider itself reported the error inside its stream."""
    return getattr(error, "body", None) is not None


def _message(error: Any) -> str:
    """Return the provider's own sentence rather than the SDK's dump of the whole body."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            return f"{inner['message']} (HTTP {error.status_code})"
    return str(error)


def _codes(error: Any) -> str:
    """Return the machine's words of an error: its code and type, wherever the provider put them."""
    body = getattr(error, "body", None)
    try:
        text = json.dumps(body)[:2000]
    except (TypeError, ValueError, RecursionError):
        text = ""
    return f"{getattr(error, 'code', '')} {getattr(error, 'type', '')} {text}"


def _shown(text: str, key: str) -> str:
    """Return the text without the key, which an endpoint may echo, and of bounded length."""
    if len(key) >= 4:
        text = text.replace(key, "***")
    return " ".join(text.split())[:MESSAGE_CHARACTERS]


def retry_after(response: Any) -> float | None:
    """Return the seconds that the provider asks us to wait, at most an hour."""
    headers = getattr(response, "headers", None) or {}
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / divisor
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, 3600.0)
    return None
