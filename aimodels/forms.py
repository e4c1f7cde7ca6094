"""The form of a provider key."""

from __future__ import annotations

from django import forms

from aimodels import keys


class KeyForm(forms.Form):
    provider = forms.ChoiceField(choices=[(kind.value, kind.label) for kind in keys.KEYED])
    name = forms.CharField(required=False, max_length=100, help_text="For your eyes only.")
    key = forms.CharField(
        max_length=keys.LONGEST,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Encrypted at rest; nobody sees it again.",
    )
