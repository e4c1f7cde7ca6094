"""Where a repository is fetched from and pushed to, and how a call reaches it.

A credential travels in the environment of the one process that needs it, scoped to the exact
address; it is never part of an argument, an address, a file or a message.
"""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from repositories.git.command import Finished, git_program
from repositories.git.errors import AuthenticationFailed, CloneFailed, GitFailed

LOCAL_CONFIG = Path(__file__).with_name("local.gitconfig")
HEX = re.compile(r"[0-9a-f]{40}")
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and its secret (a token or password)."""

    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Remote:
    """An https address, or an absolute local path that the caller has approved.

    ``pinned_address`` is the checked IP address that the connection must go to. Plain http is
    for destinations that the operator allows by name.
    """

    url: str
    credential: Credential | None = None
    pinned_address: str = ""
    is_plain_http_allowed: bool = False

    @property
    def is_local(self) -> bool:
        return self.url.startswith("/")

    def environment(self) -> dict[str, str]:
        """Return what a call needs to reach this remote, and only this one."""
        if self.is_local:
            return {"GIT_ALLOW_PROTOCOL": "file", "GIT_CONFIG_GLOBAL": str(LOCAL_CONFIG)}
        schemes = ("https", "http") if self.is_plain_http_allowed else ("https",)
        if urlsplit(self.url).scheme not in schemes:
            raise CloneFailed("Only https addresses are fetched.")
        values = self._settings()
        env = {"GIT_ALLOW_PROTOCOL": ":".join(schemes), "GIT_CONFIG_COUNT": str(len(values))}
        for number, (key, value) in enumerate(values):
            env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return env

    def _settings(self) -> list[tuple[str, str]]:
        values = []
        if self.pinned_address:
            parts = urlsplit(self.url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            pinned = f"{parts.hostname}:{port}:{self.pinned_address}"
            values.append(("http.curloptResolve", pinned))
        if self.credential:
            pair = f"{self.credential.username}:{self.credential.secret}".encode()
            header = f"Authorization: Basic {base64.b64encode(pair).decode()}"
            values.append((f"http.{self.url}.extraHeader", header))
        return values

    def options(self, service: str) -> list[str]:
        """Return the options that keep a local repository's own configuration from running.

        ``service`` is "upload-pack" or "receive-pack"; the option has the same name.
        """
        if not self.is_local:
            return []
        settings = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0",
                    "core.alternateRefsCommand=", "receive.denyCurrentBranch=refuse",
                    "receive.autogc=false", "receive.procReceiveRefs=")  # fmt: skip
        flags = " ".join(f"-c {setting}" for setting in settings)
        return [f"--{service}={shlex.quote(git_program())} {flags} {service}"]

    def cleaned(self, text: str) -> str:
        """Return ``text`` without the secret, in any of the forms it may take, and short."""
        if self.credential and self.credential.secret:
            pair = f"{self.credential.username}:{self.credential.secret}".encode()
            for secret in (self.credential.secret, base64.b64encode(pair).decode()):
                text = text.replace(secret, "***")
        text = re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)
        return "".join(c if c.isprintable() else " " for c in text).strip()[-REASON_CHARACTERS:]


REFUSALS: tuple[tuple[str, type[CloneFailed], str], ...] = (
    (r"Authentication failed|could not read Username|could not read Password|error: 40[13]\b",
     AuthenticationFailed, ""),
    (r"requested URL returned error: 3\d\d|redirect",
     CloneFailed, "The address redirects elsewhere; give the final address."),
    (r"not found|does not exist|not appear to be a git repository|error: 404|not valid: is this a git",
     CloneFailed, "There is no git repository at this address, or it needs a credential."),
    (r"not allowed|unsupported protocol|Protocol .* not supported",
     CloneFailed, "This kind of address is not allowed."),
    (r"dumb http transport",
     CloneFailed, "The server speaks git's old protocol alone, in which objects come unchecked."),
    (r"Out of memory|cannot allocate memory",
     CloneFailed, "The server says more of the repository than is read."),
    (r"certificate|server verification failed",
     CloneFailed, "The server's certificate could not be verified."),
    (r"fsck|in tree|invalid (index-pack|pack)|hasDot|index-pack failed|bad (object|pack)|malformed",
     CloneFailed, "The repository holds damaged or unsafe objects and was not taken."),
    (r"Could not resolve|Failed to connect|refused|timed out|unreachable|Empty reply|reset by peer"
     r"|early EOF|hung up|too slow|SSL|TLS|error: 5\d\d",
     CloneFailed, "The repository could not be reached."),
)  # fmt: skip


def refusal(remote: Remote, finished: Finished) -> GitFailed:
    """Return the error that says why a call to a remote failed."""
    detail = remote.cleaned(finished.errors)
    if finished.stopped == "timeout":
        return CloneFailed("The repository took too long to answer.", detail=detail)
    for pattern, kind, message in REFUSALS:
        if re.search(pattern, finished.errors, re.IGNORECASE):
            return kind(message, detail=detail)
    return CloneFailed(detail=detail)
