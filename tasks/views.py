"""The pages of tasks. Fragments have routes of their own; asked for by hand they lead to the page."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from accounts.models import User
from asynccoder.lib.errors import AppError
from repositories.models import Repository
from tasks import lifecycle, listing, panes, states, stepview, timeline
from tasks.errors import IdempotencyConflict, TaskFinished
from tasks.forms import TYPES, FilterForm, TaskForm
from tasks.models import TERMINAL, Task

HOME_ROWS = 8
BIG = 2**62


def user_of(request: HttpRequest) -> User:
    """Return the signed-in user; ``login_required`` has seen to it that there is one."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def task_of(request: HttpRequest, task_id: uuid.UUID, *related: str) -> Task:
    """Return the task if the user may see it; for a stranger it does not exist."""
    visible = Task.objects.visible_to(user_of(request))
    task: Task = get_object_or_404(
        visible.select_related("owner", "repository", "model", *related), pk=task_id
    )
    return task


def can_act(user: User, task: Task) -> bool:
    """Tell whether the user may cancel and steer the task, not only look at it."""
    return user.can_work and (task.owner_id == user.pk or user.is_admin)


def _number(request: HttpRequest, name: str, default: int = 0) -> int:
    text = request.GET.get(name, "")
    return min(int(text), BIG) if text.isascii() and text.isdigit() else default


def _is_fragment(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


@require_GET
@login_required
def home(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    rows = (
        Task.objects.filter(owner=user)
        .select_related("repository", "model", "owner")
        .order_by("-created_at", "-id")
    )
    ended = rows.filter(status__in=TERMINAL).order_by("-completed_at", "-id")
    return render(
        request,
        "tasks/home.html",
        {
            "section": "home",
            "open_tasks": [(task, states.badge_of(task)) for task in rows.open()[:HOME_ROWS]],
            "ended_tasks": [(task, states.badge_of(task)) for task in ended[:HOME_ROWS]],
            "repositories": list(Repository.objects.visible_to(user).active()[:HOME_ROWS]),
        },
    )


@require_GET
@login_required
def task_list(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = FilterForm(request.GET, user=user)
    form.is_valid()
    page = listing.page_of(listing.filtered(user, form.cleaned_data), request.GET.get("after", ""))
    query = request.GET.copy()
    query.pop("after", None)
    return render(
        request,
        "tasks/list.html",
        {
            "section": "tasks",
            "form": form,
            "rows": [(task, states.badge_of(task)) for task in page.tasks],
            "next": page.after,
            "query": query.urlencode(),
            "status": request.GET.get("status", ""),
            "is_filtered": any(form.cleaned_data.values()),
        },
    )


@require_GET
@login_required
def line(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer one row of the list: how a live page redraws a task that changed."""
    task = task_of(request, task_id)
    if not _is_fragment(request):
        return redirect("tasks:detail", task_id=task.pk)
    context = {"task": task, "badge": states.badge_of(task)}
    return render(request, "tasks/line.html", context)


@require_http_methods(["GET", "POST"])
@login_required
def new(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    if not user.can_work:
        raise PermissionDenied
    form = TaskForm(request.POST or None, user=user, initial=_preset(request))
    if request.method == "POST" and form.is_valid():
        done = _created(user, form)
        if done is not None:
            return done
    status = 422 if form.is_bound else 200
    context = {"section": "tasks", "form": form, "types": TYPES.items()}
    return render(request, "tasks/new.html", context, status=status)


def _preset(request: HttpRequest) -> dict[str, str]:
    names = ("type", "repository", "branch", "target_branch", "model", "prompt")
    return {name: request.GET[name] for name in names if name in request.GET}


def _created(user: User, form: TaskForm) -> HttpResponseRedirect | None:
    """Create the task and lead to its page, or put the reason why not into the form."""
    try:
        task, _ = lifecycle.create_task(owner=user, request=form.as_request())
    except IdempotencyConflict:
        form.renew_key()
        form.add_error(
            None, "A task was already started from this page. Press Start again for another one."
        )
    except AppError as error:
        form.add_error(None, str(error))
    else:
        return HttpResponseRedirect(reverse("tasks:detail", args=[task.pk]), status=303)
    return None


@require_GET
@login_required
def detail(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    task = task_of(request, task_id, "result", "analysis")
    log = timeline.last_page_of(task.pk)
    context = _head(request, task) | {
        "section": "tasks",
        "rows": timeline.rows_of(task.pk, log),
        "first": log[0].sequence if log else 1,
        "cursor": log[-1].sequence if log else 0,
        "pane": panes.pane_of(
            task, user_of(request), request.GET.get("tab", ""), _number(request, "file", -1)
        ),
        "on_phone": "tab" in request.GET,
    }
    return render(request, "tasks/detail.html", context)


def _head(request: HttpRequest, task: Task) -> dict[str, Any]:
    """Return what the task's header and plan show; every answer of ``rows`` carries them anew."""
    done = sum(item.get("status") == "done" for item in task.plan)
    return {
        "task": task,
        "badge": states.badge_of(task),
        "fault": states.fault_of(task) if task.status == "failed" else "",
        "runtime": states.runtime_of(task),
        "spent_percent": states.spent_percent(task),
        "can_act": can_act(user_of(request), task),
        "plan_done": done,
        "plan_left": len(task.plan) - done,
    }


@require_GET
@login_required
def rows(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer the timeline's rows ``after`` (or ``before``) an event, with the header as it is now."""
    task = task_of(request, task_id)
    if not _is_fragment(request):
        return redirect("tasks:detail", task_id=task.pk)
    if "before" in request.GET:
        log = timeline.page_before(task.pk, before=_number(request, "before"))
    else:
        log = timeline.page_of(task.pk, after=_number(request, "after"))
    context = _head(request, task) | {
        "rows": timeline.rows_of(task.pk, log),
        "first": log[0].sequence if log else 1,
    }
    response = render(request, "tasks/rows.html", context)
    response["X-Cursor"] = str(log[-1].sequence if log else _number(request, "after"))
    response["X-Status"] = task.status
    return response


@require_GET
@login_required
def pane(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer the right half of the task's page: one of its tabs."""
    task = task_of(request, task_id, "result", "analysis")
    tab = request.GET.get("tab", "")
    if not _is_fragment(request):
        return redirect(
            f"{reverse('tasks:detail', args=[task.pk])}?tab={panes.known_tab(task, tab)}"
        )
    context = _head(request, task) | {
        "pane": panes.pane_of(task, user_of(request), tab, _number(request, "file", -1))
    }
    return render(request, "tasks/_pane.html", context)


@require_GET
@login_required
def file(request: HttpRequest, task_id: uuid.UUID, number: int) -> HttpResponse:
    """Answer one file of the diff in full: what the page's limits had folded."""
    task = task_of(request, task_id, "result")
    if not _is_fragment(request):
        page = reverse("tasks:detail", args=[task.pk])
        return redirect(f"{page}?tab=changes&file={number}#file-{number}")
    context = {"task": task, "file": panes.file_of(task, number)}
    return render(request, "tasks/_file.html", context)


@require_GET
@login_required
def step(request: HttpRequest, task_id: uuid.UUID, ordinal: int) -> HttpResponse:
    """Show one step in full: what went in, what came out, a thousand lines at a time."""
    task = task_of(request, task_id)
    shown = stepview.step_of(task, ordinal, first=max(1, _number(request, "from", 1)))
    return render(request, "tasks/step.html", {"section": "tasks", "task": task, "shown": shown})


@require_http_methods(["GET", "POST"])
@login_required
def cancel(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    user, task = user_of(request), task_of(request, task_id)
    if not can_act(user, task):
        raise PermissionDenied
    if request.method == "GET":
        return render(request, "tasks/cancel.html", {"section": "tasks", "task": task})
    try:
        lifecycle.cancel_task(task, by=user)
    except TaskFinished:
        messages.warning(request, "The task had already ended.")
    return HttpResponseRedirect(reverse("tasks:detail", args=[task.pk]), status=303)
