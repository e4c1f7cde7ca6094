"""The system-call filter, run by a small interpreter of BPF: also for the processor we are not on."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from tasks.sandbox import seccomp
from tasks.sandbox.base import SandboxUnavailable

ALLOWED = "allowed"
KILLED = "killed"
X86, ARM = 0xC000003E, 0xC00000B7
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def decide(program: bytes, call: int, *arguments: int, audit: int = X86) -> str | int:
    """Return what the filter answers: allowed, killed or an errno."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", call, audit, 0, *words)
    lines = list(struct.iter_unpack("=HBBI", program))
    place, value = 0, 0
    while True:
        code, yes, no, k = lines[place]
        place += 1
        if code == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, k)
        elif code == seccomp.RETURN:
            break
        else:
            true = {
                seccomp.EQUAL: value == k,
                seccomp.AT_LEAST: value >= k,
                seccomp.GREATER: value > k,
                seccomp.ANY_BIT: bool(value & k),
            }[code]
            place += yes if true else no
    if k == seccomp.ALLOW:
        return ALLOWED
    return KILLED if k == seccomp.KILL else k & 0xFFFF


@pytest.mark.parametrize(("name", "audit"), [("x86_64", X86), ("aarch64", ARM)])
def test_every_listed_call_is_refused_and_no_other(name: str, audit: int) -> None:
    program, machine = seccomp.filter_program(name), seccomp.MACHINES[name]
    refused = {*machine.denied.values(), *machine.everywhere.values()}
    absent = {machine.clone3, machine.memfd_create, machine.memfd_secret}
    for call in range(seccomp.NEWEST_CALL + 1):
        expected: str | int = ALLOWED
        if call in refused:
            expected = errno.EPERM
        elif call in absent:
            expected = errno.ENOSYS
        elif call in (machine.socket, machine.prlimit64):
            continue
        assert decide(program, call, audit=audit) == expected, call


@pytest.mark.parametrize(("name", "audit"), [("x86_64", X86), ("aarch64", ARM)])
def test_arguments_are_looked_at(name: str, audit: int) -> None:
    program, machine = seccomp.filter_program(name), seccomp.MACHINES[name]

    def answer(call: int, *arguments: int) -> str | int:
        return decide(program, call, *arguments, audit=audit)

    families = {number: answer(machine.socket, number) for number in range(46)}
    assert {number for number, said in families.items() if said == ALLOWED} == {1, 2, 10}
    assert set(families.values()) == {ALLOWED, errno.EAFNOSUPPORT}
    assert answer(machine.ioctl, 0, 0x5412) == errno.EPERM
    assert answer(machine.ioctl, 0, 0xFFFFFFFF00005412) == errno.EPERM, "the kernel takes 32 bits"
    assert answer(machine.ioctl, 0, 0x541C) == errno.EPERM
    assert answer(machine.ioctl, 0, 0x5413) == ALLOWED
    assert answer(machine.clone, 0x01200011) == ALLOWED, "fork"
    assert answer(machine.clone, 0x003D0F00) == ALLOWED, "a thread"
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine.clone, bit | 17) == errno.EPERM
    assert (answer(machine.prlimit64, 0), answer(machine.prlimit64, 1)) == (ALLOWED, errno.EPERM)
    sizes = [answer(machine.shmget, 0, size) for size in (56, 65536, 65537, 1 << 32)]
    assert sizes == [ALLOWED, ALLOWED, errno.ENOMEM, errno.ENOMEM]


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_calls_of_another_world_are_killed_or_unknown(name: str) -> None:
    program, own = seccomp.filter_program(name), X86 if name == "x86_64" else ARM
    for audit in (0x40000003, 0x40000028, ARM if own == X86 else X86):
        assert decide(program, 0, audit=audit) == KILLED
    assert decide(program, 0x40000000, audit=own) == KILLED
    assert decide(program, 0x40000000 | 101, audit=own) == KILLED
    assert decide(program, seccomp.NEWEST_CALL + 1, audit=own) == errno.ENOSYS


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_the_numbers_are_the_kernels(name: str) -> None:
    header = HEADERS[name]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    words = [line.split() for line in header.read_text().splitlines() if "__NR_" in line]
    known = {
        line[1].removeprefix("__NR_"): int(line[2])
        for line in words
        if len(line) == 3 and line[0] == "#define" and line[2].isdigit()
    }
    machine = seccomp.MACHINES[name]
    ours = {**machine.denied, **machine.everywhere}
    for field in ("socket", "ioctl", "clone", "shmget", "prlimit64", "memfd_create", "clone3"):
        ours[field] = getattr(machine, field)
    checked = {call: number for call, number in ours.items() if call in known}
    assert len(checked) > 45
    assert checked == {call: known[call] for call in checked}


def test_an_unknown_processor_has_no_sandbox() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        seccomp.filter_program("riscv64")
