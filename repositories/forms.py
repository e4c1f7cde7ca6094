"""The forms of a repository. They check shape; the rules are ``connect``'s and ``editing``'s."""

from __future__ import annotations

from typing import Any

from django import forms

from repositories import editing, git
from repositories.errors import SettingRefused
from repositories.models import Repository


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


def _lines(rows: int, placeholder: str) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows, "spellcheck": "false", "placeholder": placeholder})


class SettingsForm(forms.Form):
    setup_command = forms.CharField(
        required=False,
        widget=forms.TextInput(attrs={"spellcheck": "false", "placeholder": "npm ci"}),
        help_text="Runs in the sandbox before a task begins. Empty: nothing is set up.",
    )
    check_commands = forms.CharField(
        required=False,
        widget=_lines(4, "make test"),
        help_text="One a line; each must pass before a change is handed back. Empty: detected.",
    )
    network_allow_list = forms.CharField(
        required=False,
        label="Network",
        widget=_lines(5, "packages.example.org"),
        help_text=(
            "Hosts that the sandbox may reach over https, one a line: a name, .example.com for "
            "every name below it, or host:port. Whatever a task sees can be sent to them. "
            "Empty: no network at all."
        ),
    )

    @classmethod
    def showing(cls, repository: Repository) -> SettingsForm:
        return cls(
            initial={
                "setup_command": repository.setup_command,
                "check_commands": "\n".join(repository.check_commands),
                "network_allow_list": "\n".join(repository.network_allow_list),
            }
        )

    def values(self) -> dict[str, Any]:
        """Return what ``editing.edit_repository`` takes; call it on a valid form."""
        typed = self.cleaned_data
        return {
            "setup_command": typed["setup_command"],
            "check_commands": typed["check_commands"].splitlines(),
            "network_allow_list": typed["network_allow_list"].splitlines(),
        }


class AdminForm(forms.ModelForm[Repository]):
    """The admin, which names its fields, keeps the same rules."""

    def clean_setup_command(self) -> str:
        return str(self._checked("setup_command", ""))

    def clean_check_commands(self) -> object:
        return self._checked("check_commands", [])

    def clean_network_allow_list(self) -> object:
        return self._checked("network_allow_list", [])

    def _checked(self, name: str, empty: object) -> object:
        try:
            return editing.RULES[name](self.cleaned_data[name] or empty)
        except SettingRefused as error:
            raise forms.ValidationError(error.message) from error
