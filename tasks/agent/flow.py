"""What ends a step of the loop early. Control flow inside ``tasks.agent`` only."""

from __future__ import annotations


class StepLost(Exception):
    """Nothing came of this step; the next one asks anew."""


class Finished(Exception):
    """The model has finished for good."""


class Blocked(Exception):
    """The run goes round in circles, though the model was told."""
