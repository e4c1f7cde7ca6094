"""The first process inside a sandbox: starts its commands, and ends all that they leave behind.

The host hands this file to bubblewrap, which runs it as PID 1 with ``python -I -S``; it is never
imported there, so it uses the standard library alone, and of that only what is written in C: to
import ``socket``, ``signal``, ``json`` and ``contextlib`` would triple the time a sandbox takes to
start. It speaks over one inherited SOCK_SEQPACKET socket: a request is a marshalled dict in a
memfd (the first descriptor sent with it), a reply one JSON datagram. When the host's end closes,
it exits, and the kernel ends the whole namespace.
"""

from __future__ import annotations

import _ctypes
import _signal as signal  # type: ignore[import-not-found]  # what ``signal`` is made of; it has no stub
import _socket as socket
import errno
import marshal
import os
import resource
import select
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PR_SET_DUMPABLE = 4
SCRATCH = 1024**2
PROXY_PORT = 3128
PROXY_BACKLOG = 64
MOST_FDS = 8
INT = 4
ERROR_KINDS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EISDIR: "folder",
    errno.EACCES: "refused",
    errno.EPERM: "refused",
    errno.EROFS: "refused",
}


class Unfit(Exception):
    """The file is not one that may be read or written; the message says why."""


class Request:
    """One message of the host with its descriptors."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds
        size = os.fstat(fds[0]).st_size
        self.fields: dict[str, Any] = marshal.loads(os.pread(fds[0], size, 0))  # noqa: S302 (it is the host's)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class Init:
    """The loop of PID 1: one request at a time, with ``kill`` heard while a command runs."""

    def __init__(self, control: socket.socket, relays: list[Relay]) -> None:
        self.control = control
        self.relays = relays
        self.wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def serve(self) -> None:
        self.reply({"id": 0, "ready": True})
        actions = {"run": self.run, "read": self.read, "write": self.write, "kill": self.ignore}
        while True:
            request = self.receive()
            answer = actions[request.fields["do"]](request)
            request.close()
            if answer is not None:
                self.reply({"id": request.fields["id"], **answer})

    def receive(self) -> Request:
        # Not socket.recv_fds: it forgets its flags, and every command would inherit these.
        message, ancillary, _, _ = self.control.recvmsg(
            16, socket.CMSG_SPACE(MOST_FDS * INT), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            sys.exit(0)
        fds: list[int] = []
        for _level, kind, content in ancillary:
            if kind == socket.SCM_RIGHTS:
                ends = range(INT, len(content) + 1, INT)
                fds += [int.from_bytes(content[end - INT : end], sys.byteorder) for end in ends]
        return Request(fds)

    def reply(self, answer: dict[str, Any]) -> None:
        members = ",".join(f'"{name}":{as_json(value)}' for name, value in answer.items())
        self.control.send(f"{{{members}}}".encode())

    def ignore(self, request: Request) -> None:
        """A ``kill`` whose command had ended by itself."""

    # --- Commands -------------------------------------------------------------------------------

    def run(self, request: Request) -> dict[str, Any]:
        for relay in self.relays:
            relay.start()
        try:
            child = spawn(request)
        except (OSError, ValueError) as error:
            end_all()
            return {"exit": refuse(error, request.fds[3])}
        finally:
            os.chdir("/")
        # The command's own copies must be the only ones, or its output would never end.
        request.close()
        request.fds = []
        code = self.supervise(child)
        end_all()
        return {"exit": code}

    def supervise(self, child: int) -> int:
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.register(self.wake, select.POLLIN)
        while (code := reap(child)) is None:
            for fd, _ in poller.poll():
                if fd == self.wake:
                    os.read(self.wake, 4096)
                else:
                    # While a command runs the host says nothing but "kill".
                    self.receive().close()
                    kill_all()
        return code

    # --- Files ----------------------------------------------------------------------------------

    def read(self, request: Request) -> dict[str, Any]:
        fields = request.fields
        return answer_for(lambda: copy_out(fields["path"], request.fds[1], fields["limit"]))

    def write(self, request: Request) -> dict[str, Any]:
        return answer_for(lambda: copy_in(request.fds[1], request.fields["path"]))


class Relay:
    """The way to the proxy. Its process ends with each command; its listener is kept here."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind(("127.0.0.1", PROXY_PORT))
        self.listener.listen(PROXY_BACKLOG)

    def start(self) -> None:
        # Not waited for: until it is ready, connections stand in the listener's queue.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", self.program],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self.listener.fileno(), 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )


def as_json(value: int | str) -> str:
    """Return a number, a truth or plain words as JSON; anything odd in words is left out."""
    if isinstance(value, str):
        return f'"{"".join(char for char in value if char.isalnum() or char in " ,.:-/()")}"'
    return str(value).lower()


def spawn(request: Request) -> int:
    """Start the command in a session of its own and return its pid. Raises OSError."""
    fields = request.fields
    _, standard_input, output, errors = request.fds
    os.chdir(fields["cwd"])
    return os.posix_spawn(
        find(fields["argv"][0], fields["env"].get("PATH", "")),
        fields["argv"],
        fields["env"],
        file_actions=[
            (os.POSIX_SPAWN_DUP2, standard_input, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, errors, 2),
        ],
        setsid=True,
        setsigmask=(),
        # Whoever started the worker may have ignored some, as nohup and a shell's & do.
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def refuse(error: OSError | ValueError, errors: int) -> int:
    """Say on the command's standard error why it did not start; return the shell's exit code."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}"
    os.write(errors, text.encode("utf-8", "replace")[:2000] + b"\n")
    return 127 if isinstance(error, FileNotFoundError) else 126


def find(program: str, path: str) -> str:
    """Return the program's path as a shell would find it. Raises FileNotFoundError."""
    if "/" in program:
        return program
    for folder in path.split(":"):
        candidate = os.path.join(folder, program)  # noqa: PTH118 (pathlib doubles the start-up time)
        if os.access(candidate, os.X_OK) and stat.S_ISREG(os.stat(candidate).st_mode):  # noqa: PTH116 (as above)
            return candidate
    raise FileNotFoundError(errno.ENOENT, "command not found", program)


def reap(child: int) -> int | None:
    """Collect what has ended; return the child's exit code (128 + signal) once it has."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code


def kill_all() -> None:
    """Kill every other process of the namespace, in one step that no fork can slip through."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_all() -> None:
    """Kill whatever a command left behind and wait until it is gone."""
    kill_all()
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def answer_for(action: Callable[[], int]) -> dict[str, Any]:
    """Return the action's answer, or its error in words that the host knows."""
    try:
        return {"size": action()}
    except Unfit as error:
        return {"error": "unfit", "message": str(error)}
    except OSError as error:
        return {
            "error": ERROR_KINDS.get(error.errno or 0, "unfit"),
            "message": error.strerror or "cannot be used",
        }
    except ValueError:
        return {"error": "unfit", "message": "not a file name"}


def open_regular(path: str, flags: int) -> int:
    """Open a regular file without ever waiting for another process. Raises Unfit, OSError."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise Unfit("not a regular file") from None
        raise
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    raise Unfit("not a regular file")


def copy_out(path: str, target: int, limit: int) -> int:
    """Copy a file into the host's memory file and return its size. Raises Unfit, OSError."""
    source = open_regular(path, os.O_RDONLY)
    try:
        if os.fstat(source).st_size > limit:
            raise Unfit(f"larger than {limit} bytes")
        total = 0
        while chunk := os.read(source, SCRATCH):
            if total + len(chunk) > limit:
                raise Unfit(f"larger than {limit} bytes")
            os.pwrite(target, chunk, total)
            total += len(chunk)
        return total
    finally:
        os.close(source)


def copy_in(source: int, path: str) -> int:
    """Write the host's memory file to a path, making its folders. Raises Unfit, OSError."""
    if folder := os.path.dirname(path):  # noqa: PTH120 (pathlib doubles the start-up time)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 (as above)
    target = open_regular(path, os.O_WRONLY | os.O_CREAT)
    try:
        # Not O_TRUNC: only once it is known to be a regular file.
        os.ftruncate(target, 0)
        total = 0
        while chunk := os.pread(source, SCRATCH, total):
            total += os.write(target, chunk)
        return total
    finally:
        os.close(target)


def confine(limits: str) -> None:
    """Bind this process and all its children by limits ("RLIMIT_CORE=0,…"), and hide it from them."""
    try:
        with open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 (as above)
            # When the machine runs out of memory, tenants' processes go first.
            score.write("900")
    except OSError:
        pass
    for limit in limits.split(","):
        name, _, given = limit.partition("=")
        kind, value = getattr(resource, name), int(given)
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    # Commands have the same user id: without this they could open /proc/1/mem and /proc/1/fd.
    this = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is this very program
    prctl = _ctypes.dlsym(this, "prctl")
    if _ctypes.call_function(prctl, (PR_SET_DUMPABLE, 0, 0, 0, 0)) != 0:
        sys.exit("the kernel refused PR_SET_DUMPABLE")
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    if os.getpid() != 1:
        # ``kill(-1)`` would reach every process of this user.
        sys.exit("the init must be the first process of a namespace")
    _marker, fd, limits, *programs = sys.argv[1:]
    os.set_inheritable(int(fd), False)  # noqa: FBT003 (positional in the standard library)
    confine(limits)
    Init(socket.socket(fileno=int(fd)), [Relay(program) for program in programs]).serve()


if __name__ == "__main__":
    main()
