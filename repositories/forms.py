"""The form that connects a repository. It checks shape; the rules are ``connect``'s."""

from __future__ import annotations

from django import forms

from repositories import git


class ConnectForm(forms.Form):
    url = forms.CharField(
        label="Address",
        max_length=500,
        widget=forms.TextInput(
            attrs={"placeholder": "https://github.com/owner/name", "spellcheck": "false"}
        ),
        help_text="An https address, or a path on this server where its operator allows paths.",
    )
    name = forms.CharField(
        required=False, max_length=100, help_text="Empty: taken from the address."
    )
    default_branch = forms.CharField(
        required=False, max_length=255, help_text="Empty: the one that the repository names."
    )
    username = forms.CharField(
        required=False,
        max_length=200,
        label="User name",
        help_text="Only for a private repository; most services take any name beside a token.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    token = forms.CharField(
        required=False,
        max_length=800,
        label="Token or password",
        help_text="Kept encrypted, never shown again, and never seen by the agent.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def credential(self) -> git.Credential | None:
        """Return what was typed in; call it on a valid form."""
        token = self.cleaned_data["token"]
        return git.Credential(self.cleaned_data["username"], token) if token else None
