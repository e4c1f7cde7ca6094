"""What django-cors-headers is told of the API; settings.py is the only caller."""

URLS = r"^/(api|auth|health|ready|openapi\.(json|yaml))(/|$)"
REQUEST_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-api-key",
    "x-request-id",
]
ANSWER_HEADERS = [
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
]
