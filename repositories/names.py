"""What a repository may be called."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RULE = "A name holds letters, digits, dots, dashes and underscores and begins with a letter or a digit."
