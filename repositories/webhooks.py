"""GitHub's webhooks: proven by their signature, stored once, worked on after that.

What the database alone can do is done with the storing; what fetches comes after the answer. The
work is a function of what GitHub or git says now, or of GitHub's own time, so that repeats,
replays and any order end in the same state.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from asynccoder.lib import storable, upcalls
from asynccoder.lib.errors import AppError
from repositories import connect, git, pull_requests
from repositories.errors import DeliveryBad, SignatureBad, WebhookNotSet
from repositories.models import PullRequest, Repository, RepositoryWebhook, WebhookDelivery

logger = logging.getLogger(__name__)

MOST_BYTES = 25 * 1024**2
"""GitHub's own limit of a payload."""
REFRESH_SECONDS = 30.0
"""How long a push may keep the one thread for a repository; its next task fetches all the same."""
DELIVERY_SECONDS = 120.0
"""And how long for all rows of that repository together, but for the last one begun."""
WORK_SECONDS = timedelta(minutes=5)
"""How long whoever works on a delivery has it alone; longer than it may take."""
PAUSES = (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
"""Between the tries of a delivery; after the last one it has failed."""
MOST_TRIES = len(PAUSES) + 1
UNHEARD = timedelta(seconds=10)

State = WebhookDelivery.State


@dataclass(frozen=True, slots=True)
class Given:
    """One request as it came: its raw body and GitHub's headers."""

    body: bytes
    signature: str
    event: str
    delivery: str
    hook_id: str
    is_form: bool = False


def receive(given: Given) -> bool:
    """Check and store a delivery; False for a repeat.

    What only changes rows is done in the same transaction, so that no bell is needed for it; the
    rest is worked on after the commit. Nothing is parsed before the signature is proven. Raises
    WebhookNotSet, SignatureBad, DeliveryBad.
    """
    prove(given)
    row = _described(given, _payload(given))
    with transaction.atomic():
        # The unique id decides between two that come at once: one INSERT finds nothing to do.
        WebhookDelivery.objects.bulk_create([row], ignore_conflicts=True)
        if not WebhookDelivery.objects.filter(pk=row.pk).exists():
            return False
        if row.event in AT_ONCE:
            for repository in _repositories(row):
                WORK[row.event](repository, row)
        elif row.state == State.WAITING:
            transaction.on_commit(lambda: upcalls.call("webhook_stored", row.pk))
    return True


def require_secret() -> None:
    if not settings.GITHUB_WEBHOOK_SECRET:
        raise WebhookNotSet


def prove(given: Given) -> None:
    """Raise WebhookNotSet or SignatureBad unless the body is signed with our secret."""
    require_secret()
    key = settings.GITHUB_WEBHOOK_SECRET.encode()
    wanted = f"sha256={hmac.new(key, given.body, hashlib.sha256).hexdigest()}"
    if not hmac.compare_digest(wanted.encode(), given.signature.encode("utf-8", "replace")):
        raise SignatureBad


def _payload(given: Given) -> dict[str, Any]:
    body: bytes | str = given.body
    try:
        if given.is_form:
            body = parse_qs(given.body.decode("ascii"), strict_parsing=True)["payload"][0]
        found = json.loads(body)
    except (ValueError, KeyError, RecursionError):
        raise DeliveryBad("The body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise DeliveryBad("The body must be a JSON object.")
    return found


def _described(given: Given, payload: Mapping[str, Any]) -> WebhookDelivery:
    """Return the unsaved row: what the work needs, in checked and bounded values."""
    if not re.fullmatch(r"[a-z_]{1,64}", given.event):
        raise DeliveryBad("X-GitHub-Event names no event.")
    delivery = given.delivery or f"sha256:{hashlib.sha256(given.body).hexdigest()}"
    if not re.fullmatch(r"[A-Za-z0-9:_-]{1,80}", delivery):
        raise DeliveryBad("X-GitHub-Delivery is no id.")
    repository = _object(payload.get("repository"))
    pick, now = PICKED.get(given.event), timezone.now()
    return WebhookDelivery(
        delivery=delivery,
        event=given.event,
        action=_text(payload.get("action"), 64),
        github_id=_number(repository.get("id")),
        full_name=_text(repository.get("full_name"), 201),
        hook_id=int(given.hook_id) if re.fullmatch(r"[0-9]{1,18}", given.hook_id) else None,
        data=pick(payload) if pick else {},
        state=State.WAITING if pick and given.event not in AT_ONCE else State.DONE,
        received_at=now,
        run_after=now,
    )


def _pull_request_data(payload: Mapping[str, Any]) -> dict[str, Any]:
    pull = _object(payload.get("pull_request"))
    return {
        "number": _number(pull.get("number")),
        "state": "merged" if pull.get("merged") is True else _text(pull.get("state"), 10),
        "title": _text(pull.get("title"), 300),
        "updated_at": _text(pull.get("updated_at"), 40),
    }


def _ping_data(payload: Mapping[str, Any]) -> dict[str, Any]:
    hook = _object(payload.get("hook"))
    events = hook.get("events")
    names = [_text(name, 64) for name in events] if isinstance(events, list) else []
    return {"events": names[:100], "is_active": hook.get("active") is True}


def _push_data(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"ref": _text(payload.get("ref"), 255), "after": _text(payload.get("after"), 64)}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object, most: int) -> str:
    return storable.text(value)[:most] if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_number and 0 < int(value) < 2**63 else None  # type: ignore[call-overload] # is_number has told


# --- Working on what was stored -----------------------------------------------------------------
def process(delivery_id: uuid.UUID) -> bool:
    """Work on a delivery unless somebody does or has; tell whether it is done by this.

    1. Take it by one conditional UPDATE; whoever dies with it leaves it to be taken later.
    2. Work; every effect may be repeated.
    3. Settle it, if it is still ours: done, to be tried again, or failed.
    """
    now = timezone.now()
    due = WebhookDelivery.objects.filter(state=State.WAITING, run_after__lte=now, pk=delivery_id)
    if not due.update(run_after=now + WORK_SECONDS, attempts=F("attempts") + 1):
        return False
    row = WebhookDelivery.objects.get(pk=delivery_id)
    if row.attempts > MOST_TRIES:
        _settle(row, row.error or "Whoever worked on it did not come to an end.")
        return False
    error = _work_on(row)
    _settle(row, error)
    return not error


def process_due() -> int:
    """Work on all deliveries that are due, oldest first; return how many were done by this."""
    due = WebhookDelivery.objects.filter(state=State.WAITING, run_after__lte=timezone.now())
    return sum(process(pk) for pk in list(due.order_by("run_after").values_list("pk", flat=True)))


def _work_on(row: WebhookDelivery) -> str:
    """Work on every repository of a delivery, whatever the others raise; return what they said."""
    errors, end = [], time.monotonic() + DELIVERY_SECONDS
    for repository in _repositories(row):
        if time.monotonic() > end:
            errors.append("The time was over before all rows of the repository.")
            break
        try:
            WORK[row.event](repository, row)
        except (AppError, git.GitFailed, OSError) as error:
            errors.append(f"{repository.owner}: {error}")
    return "; ".join(errors)


def _settle(row: WebhookDelivery, error: str) -> None:
    ours = WebhookDelivery.objects.filter(
        pk=row.pk, state=State.WAITING, attempts=row.attempts, run_after=row.run_after
    )
    if not error:
        ours.update(state=State.DONE, error="")
    elif row.attempts < MOST_TRIES:
        pause = PAUSES[row.attempts - 1]
        ours.update(run_after=timezone.now() + pause, error=error[:500])
    else:
        logger.warning("webhook delivery %s failed: %s", row.delivery, error)
        ours.update(state=State.FAILED, error=error[:500])


def _repositories(row: WebhookDelivery) -> list[Repository]:
    """Return every user's row of the repository that a delivery is about.

    Those that were fetched last come first, so that none waits for one that never succeeds.
    """
    if row.github_id is None:
        return []
    address = f"{settings.GITHUB_URL}/{row.full_name}"
    by_address = Q(github_id__isnull=True, web_url__iexact=address)
    rows = Repository.objects.active().filter(kind=Repository.Kind.GITHUB)
    mine = rows.filter(Q(github_id=row.github_id) | by_address).select_related("owner")
    return list(mine.order_by(F("synced_at").desc(nulls_last=True)))


def _note_hook(repository: Repository, row: WebhookDelivery) -> None:
    if row.hook_id is None:
        return
    values: dict[str, Any] = {"last_delivery_at": row.received_at}
    if row.event == "ping":
        values |= {"events": row.data["events"], "is_active": row.data["is_active"]}
    RepositoryWebhook.objects.update_or_create(
        repository=repository, hook_id=row.hook_id, defaults=values
    )


def _refresh_mirror(repository: Repository, row: WebhookDelivery) -> None:
    """Fetch what was pushed; a repository that nobody has worked on yet has no mirror."""
    _note_hook(repository, row)
    if connect.mirror_path(repository).is_dir():
        connect.sync_repository(repository, seconds=REFRESH_SECONDS)


def _update_pull_request(repository: Repository, row: WebhookDelivery) -> None:
    """Take over what GitHub says of a stored pull request, unless we know something newer."""
    _note_hook(repository, row)
    moment = _moment(row.data["updated_at"])
    if moment is None or row.data["state"] not in PullRequest.State.values:
        return
    rows = repository.pull_requests.filter(number=row.data["number"])
    state, title = row.data["state"], row.data["title"]
    pull_requests.take_over(rows, state=state, title=title, moment=moment)


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


PICKED: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "ping": _ping_data,
    "push": _push_data,
    "pull_request": _pull_request_data,
}
WORK: dict[str, Callable[[Repository, WebhookDelivery], None]] = {
    "ping": _note_hook,
    "push": _refresh_mirror,
    "pull_request": _update_pull_request,
}
"""What is done for each event, after what of its body is kept; all others are only noted."""
AT_ONCE = {"ping", "pull_request"}
"""The events whose work only changes rows."""


# --- Housekeeping -------------------------------------------------------------------------------
def ring_waiting() -> None:
    """Ring once where deliveries wait that nobody has heard of, or that are to be tried again.

    Whoever hears it works on all that are due: more bells would only wait in the queue.
    """
    unheard = timezone.now() - UNHEARD
    waiting = WebhookDelivery.objects.filter(state=State.WAITING, run_after__lte=unheard)
    oldest = waiting.order_by("run_after").first()
    if oldest is not None:
        upcalls.call("webhook_stored", oldest.pk)


def try_again(delivery_ids: Iterable[uuid.UUID]) -> int:
    """Have failed deliveries worked on once more; return how many."""
    count = 0
    for delivery_id in delivery_ids:
        rows = WebhookDelivery.objects.filter(pk=delivery_id, state=State.FAILED)
        if rows.update(state=State.WAITING, attempts=0, run_after=timezone.now()):
            count += 1
            upcalls.call("webhook_stored", delivery_id)
    return count


def forget_old() -> int:
    """Delete deliveries that are older than WEBHOOKS_KEEP_DAYS (0: none); return how many."""
    if not settings.WEBHOOKS_KEEP_DAYS:
        return 0
    before = timezone.now() - timedelta(days=settings.WEBHOOKS_KEEP_DAYS)
    return int(WebhookDelivery.objects.filter(received_at__lt=before).delete()[0])
