"""The forms of the task pages. They check shape; the rules are ``tasks.lifecycle``'s."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.conf import settings

from accounts.models import User
from aimodels.models import AIModel
from repositories.models import Repository
from tasks.lifecycle import TaskRequest
from tasks.models import Status, TaskType

TYPES = {
    TaskType.DEBUG: ("Find and fix a fault", "changes to the code, with checks before and after"),
    TaskType.IMPLEMENT: ("Implement something", "changes to the code, with checks"),
    TaskType.BUILD: ("Build something new", "a new project, or a new part of one"),
    TaskType.DOCUMENTATION: ("Document", "changes to documentation and docstrings only"),
    TaskType.ASK: ("Ask", "an answer that cites files and lines"),
    TaskType.ARCHITECT: ("Plan", "a plan document; nothing is changed"),
    TaskType.PR_REVIEW: ("Review", "findings on the changed lines of a branch or a patch"),
    TaskType.ANALYSIS: ("Analyse", "a report: quality, security, types, coverage"),
}
LIST_STATUSES = [("", "All"), ("open", "Open"), ("ended", "Ended"), *Status.choices]


class TaskForm(forms.Form):
    """What a new task needs. Give it the ``user`` whose repositories and models are offered."""

    type = forms.ChoiceField(
        choices=[(slug, words[0]) for slug, words in TYPES.items()],
        widget=forms.RadioSelect,
        initial=TaskType.DEBUG,
    )
    prompt = forms.CharField(
        label="What should be done?",
        widget=forms.Textarea(attrs={"rows": 6}),
        max_length=settings.PROMPT_MAX_CHARACTERS,
        strip=True,
    )
    repository = forms.ModelChoiceField(
        queryset=Repository.objects.none(),
        required=False,
        empty_label="None (build or implement something from nothing)",
    )
    branch = forms.CharField(
        required=False,
        max_length=255,
        help_text="Where the work starts; empty: the default branch.",
    )
    target_branch = forms.CharField(
        required=False,
        max_length=255,
        label="Compare with",
        help_text="For a review: the branch that it would be merged into.",
    )
    patch = forms.CharField(
        required=False,
        max_length=1_000_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"}),
        label="Patch to review",
        help_text="A unified diff, instead of a branch.",
    )
    model = forms.ModelChoiceField(
        queryset=AIModel.objects.none(), required=False, empty_label="Automatic"
    )
    title = forms.CharField(
        required=False, max_length=200, help_text="Empty: the first line of what should be done."
    )
    extra_calls = forms.BooleanField(
        required=False, label=f"Allow {settings.AGENT_EXTRA_CALLS} more model calls than usual"
    )
    idempotency_key = forms.CharField(max_length=200, widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["repository"].queryset = (  # type: ignore[attr-defined] # a ModelChoiceField
            Repository.objects.visible_to(user).active()
        )
        self.fields["model"].queryset = (  # type: ignore[attr-defined] # a ModelChoiceField
            AIModel.objects.visible_to(user).active()
        )
        # Sending the same page twice must give one task, not two.
        self.fields["idempotency_key"].initial = f"page:{secrets.token_urlsafe(16)}"

    def renew_key(self) -> None:
        """Let the form as it was sent be sent again for another task."""
        self.data = {**self.data.dict(), "idempotency_key": self.fields["idempotency_key"].initial}  # type: ignore[attr-defined] # a bound form's data is a QueryDict

    def as_request(self) -> TaskRequest:
        """Return what was asked for; call it on a valid form."""
        values = self.cleaned_data
        names = ("type", "prompt", "title", "repository", "branch", "target_branch", "patch")
        return TaskRequest(
            **{name: values[name] for name in (*names, "model", "idempotency_key")},
            extra_calls=settings.AGENT_EXTRA_CALLS if values["extra_calls"] else 0,
        )


class FilterForm(forms.Form):
    """The filters of the task list; a wrong value is ignored, not refused."""

    q = forms.CharField(required=False, max_length=100, strip=True, label="Search titles")
    status = forms.ChoiceField(required=False, choices=LIST_STATUSES)
    type = forms.ChoiceField(required=False, choices=[("", "All"), *TaskType.choices])
    repository = forms.ModelChoiceField(
        queryset=Repository.objects.none(), required=False, empty_label="All"
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["repository"].queryset = (  # type: ignore[attr-defined] # a ModelChoiceField
            Repository.objects.visible_to(user)
        )
