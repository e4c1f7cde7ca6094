"""The system-call filter of a sandbox: classic BPF made by hand, so that no library is needed.

It allows by default and refuses what a build or a test never needs and an attacker does. Calls
newer than ``NEWEST_CALL`` answer ENOSYS, so that a kernel update opens nothing by itself.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass, field

from tasks.sandbox.base import SandboxUnavailable

LOAD, EQUAL, AT_LEAST, ANY_BIT, GREATER, RETURN = 0x20, 0x15, 0x35, 0x45, 0x25, 0x06
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
CALL, ARCHITECTURE, ARGUMENTS = 0, 4, 16
X32_BIT = 0x40000000
NEWEST_CALL = 469
SOCKET_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6; the namespace holds nothing but its own loopback."""
TERMINAL_INJECTION = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX."""
NEW_NAMESPACES = 0x7E020000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}."""
LARGEST_SYSV_SEGMENT = 64 * 1024
"""Detached System V segments are memory that no process shows; PostgreSQL needs 56 bytes."""

# Same numbers on every architecture since Linux 5.1.
DENIED_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "open_tree_attr": 467,
}  # fmt: skip
DENIED_X86_64 = {
    "ptrace": 101, "syslog": 103, "uselib": 134, "ustat": 136, "sysfs": 139, "vhangup": 153,
    "modify_ldt": 154, "pivot_root": 155, "_sysctl": 156, "adjtimex": 159, "chroot": 161,
    "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "create_module": 174, "init_module": 175, "delete_module": 176, "get_kernel_syms": 177,
    "query_module": 178, "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212,
    "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "unshare": 272, "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304,
    "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
DENIED_AARCH64 = {
    "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42,
    "chroot": 51, "vhangup": 58, "quotactl": 60, "acct": 89, "unshare": 97, "kexec_load": 104,
    "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117,
    "reboot": 142, "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "adjtimex": 171,
    "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225,
    "perf_event_open": 241, "fanotify_init": 262, "open_by_handle_at": 265, "clock_adjtime": 266,
    "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between processors: the audit architecture and call numbers."""

    audit: int
    denied: dict[str, int]
    socket: int
    ioctl: int
    clone: int
    shmget: int
    prlimit64: int
    memfd_create: int
    clone3: int = 435
    memfd_secret: int = 447
    everywhere: dict[str, int] = field(default_factory=lambda: dict(DENIED_EVERYWHERE))


MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E, denied=DENIED_X86_64, socket=41, ioctl=16, clone=56, shmget=29,
        prlimit64=302, memfd_create=319,
    ),
    "aarch64": Machine(
        audit=0xC00000B7, denied=DENIED_AARCH64, socket=198, ioctl=29, clone=220, shmget=194,
        prlimit64=261, memfd_create=279,
    ),
}  # fmt: skip


def filter_program(machine: str = "") -> bytes:
    """Return the filter for this (or the named) machine. Raises SandboxUnavailable."""
    name = machine or platform.machine()
    if name not in MACHINES:
        raise SandboxUnavailable(f"there is no system-call filter for {name} processors")
    target = MACHINES[name]
    return b"".join(
        [
            *_foreign_calls_die(target.audit),
            *_answer_if(AT_LEAST, NEWEST_CALL + 1, errno.ENOSYS),
            *_denied_calls(target),
            *_sockets_of_known_families(target.socket),
            *_word_refused(target.ioctl, 1, TERMINAL_INJECTION),
            *_namespaces_refused(target.clone),
            *_other_processes_limits_refused(target.prlimit64),
            *_large_segments_refused(target.shmget),
            _instruction(RETURN, ALLOW),
        ]
    )


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _load_argument(index: int, *, high: bool = False) -> bytes:
    """Both architectures are little-endian: the low word of an argument comes first."""
    return _instruction(LOAD, ARGUMENTS + 8 * index + 4 * high)


def _answer_if(test: int, value: int, number: int) -> list[bytes]:
    return [_instruction(test, value, no=1), _instruction(RETURN, ERROR | number)]


def _foreign_calls_die(audit: int) -> list[bytes]:
    """Only this architecture's calls, and not its x32 variant, may be made at all."""
    return [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(EQUAL, audit, yes=1),
        _instruction(RETURN, KILL),
        _instruction(LOAD, CALL),
        _instruction(AT_LEAST, X32_BIT, no=1),
        _instruction(RETURN, KILL),
    ]


def _denied_calls(target: Machine) -> list[bytes]:
    refused = [*target.denied.values(), *target.everywhere.values()]
    # ENOSYS where programs know how to do without: libc falls back from clone3 to clone, whose
    # flags can be seen here. A memfd is memory that no process shows once it is unmapped.
    absent = [target.clone3, target.memfd_create, target.memfd_secret]
    return [
        *(line for call in refused for line in _answer_if(EQUAL, call, errno.EPERM)),
        *(line for call in absent for line in _answer_if(EQUAL, call, errno.ENOSYS)),
    ]


def _for_call(call: int, body: list[bytes]) -> list[bytes]:
    """Run ``body`` for one call alone; it must leave the call's number loaded at its end."""
    body = [*body, _instruction(LOAD, CALL)]
    return [_instruction(EQUAL, call, no=len(body)), *body]


def _sockets_of_known_families(call: int) -> list[bytes]:
    last = len(SOCKET_FAMILIES)
    checks = [
        _instruction(EQUAL, family, yes=last - place)
        for place, family in enumerate(SOCKET_FAMILIES)
    ]
    refuse = _instruction(RETURN, ERROR | errno.EAFNOSUPPORT)
    return _for_call(call, [_load_argument(0), *checks, refuse])


def _word_refused(call: int, argument: int, words: tuple[int, ...]) -> list[bytes]:
    checks = [line for word in words for line in _answer_if(EQUAL, word, errno.EPERM)]
    return _for_call(call, [_load_argument(argument), *checks])


def _namespaces_refused(call: int) -> list[bytes]:
    return _for_call(call, [_load_argument(0), *_answer_if(ANY_BIT, NEW_NAMESPACES, errno.EPERM)])


def _other_processes_limits_refused(call: int) -> list[bytes]:
    """A command may lower its own limits, not those of the sandbox's first process."""
    body = [
        _load_argument(0),
        _instruction(EQUAL, 0, yes=1),
        _instruction(RETURN, ERROR | errno.EPERM),
    ]
    return _for_call(call, body)


def _large_segments_refused(call: int) -> list[bytes]:
    return _for_call(
        call,
        [
            _load_argument(1, high=True),
            *_answer_if(GREATER, 0, errno.ENOMEM),
            _load_argument(1),
            *_answer_if(GREATER, LARGEST_SYSV_SEGMENT, errno.ENOMEM),
        ],
    )
