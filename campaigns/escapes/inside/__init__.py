"""Attempts to get out of a sandbox, beyond those of the self-test (``tasks/sandbox/probe.py``).

These files lie in the hostile tenant's repository, under the same names, and its model runs
``python3 -m campaigns.escapes.inside FAMILY``. Outside, the same command is the control. An attempt
returns how it succeeded, or nothing. Standard library alone.
"""
