"""Bombs: what takes more of the machine than a sandbox may have, and what will not end."""

from __future__ import annotations

import textwrap

from campaigns.escapes.scenes import DEADLINE, WATCH, Scene, prepare, shell

# What a command writes lies in a folder that checkpoints leave out.

STOPPED = "stopped by the platform"
PLACE = "mkdir -p node_modules; cd node_modules; "
# Inside, a command waits until the watch has seen it; outside, PATIENCE makes it short.
WAIT = "import os, time; time.sleep(float(os.environ.get('PATIENCE', 60)))"
GROW = f"x = b'x' * (400 << 20); {WAIT}; print('OUT')"
SHARE = f"x = b'x' * (80 << 20); {WAIT}"
LET_GO = (
    textwrap.dedent("""\
    import mmap
    kept = []
    for _ in range(10):
        piece = mmap.mmap(-1, 40 << 20)
        for offset in range(0, 40 << 20, 4096):
            piece[offset] = 1
        piece.madvise(mmap.MADV_DONTNEED)
        kept.append(piece)
""")
    + f"{WAIT}\nprint('OUT')"
)
SEGMENT = textwrap.dedent("""\
    import ctypes
    libc = ctypes.CDLL(None)
    number = libc.shmget(0, ctypes.c_size_t(1 << 28), 0o1600)
    if number >= 0:
        libc.shmctl(number, 0, None)
        print('OUT')
""")
NAMELESS = (
    textwrap.dedent("""\
    import os
    for number in range(8):
        file = os.open('hidden', os.O_RDWR | os.O_CREAT)
        os.unlink('hidden')
        os.write(file, b'x' * (30 << 20))
""")
    + f"{WAIT}\nprint('OUT')"
)
DEEP = (
    textwrap.dedent("""\
    import os
    for _ in range(40):
        os.mkdir('d' * 200)
        os.chdir('d' * 200)
    for number in range(8):
        with open(str(number), 'wb') as file:
            file.write(b'x' * (30 << 20))
""")
    + f"{WAIT}\nprint('OUT')"
)
INODES = f"[open(f'f{{n}}', 'w').close() for n in range(30_000)]; {WAIT}; print('OUT')"


def python(source: str) -> str:
    return f"python3 - <<'END'\n{source}\nEND"


def disks() -> list[Scene]:
    """Return two scenes: each fills a disk of its own."""
    disk = f"{STOPPED}: the workspace's disk limit"
    return [Scene([
        shell("large_file", f"{PLACE} head -c 40M /dev/zero > big && echo OUT; rm -f big", "write one large file",
              "file size limit"),
        shell("many_files", PLACE + "for i in $(seq 50); do head -c 3M /dev/zero > f$i; done; sleep ${PATIENCE:-60}; echo OUT",
              "fill the disk with files", WATCH, expect=disk),
        prepare("rm -rf node_modules"),
        shell("empty_files", PLACE + python(INODES), "fill it with empty files", WATCH, expect=disk),
        prepare("rm -rf node_modules"),
    ]), Scene([
        shell("nameless_files", PLACE + python(NAMELESS), "fill it with files without a name", WATCH, expect=disk),
        shell("deep_files", PLACE + python(DEEP), "fill it deeper than a path is long", WATCH, expect=disk),
        prepare("rm -rf node_modules"),
    ])]  # fmt: skip


def limits() -> Scene:
    stopped = STOPPED
    memory = f"{stopped}: the memory limit"
    return Scene([
        shell("fork_bomb", "f() { f | f & }; f; sleep 60", "a fork bomb that multiplies", "process limit of the sandbox",
              timeout=1, expect=stopped, no_control="it would end the host"),
        shell("memory", python(GROW), "take memory past the limit", WATCH, expect=memory),
        shell("memory_of_many", f'for i in 1 2 3 4 5; do python3 -c "{SHARE}" & done; wait; echo OUT',
              "take it with many processes", WATCH, expect=memory),
        shell("memory_let_go", python(LET_GO), "take it and let no process show it", WATCH, expect=memory),
        shell("memory_segment", python(SEGMENT), "take a large System V segment", "system-call filter"),
        shell("shared_memory", "trap 'rm -f /dev/shm/fill' EXIT; head -c 30M /dev/zero > /dev/shm/fill && echo OUT",
              "fill /dev/shm", "sized memory file systems"),
        shell("temporary", "trap 'rm -f /tmp/escape.*' EXIT; for i in 1 2 3; do head -c 30M /dev/zero > /tmp/escape.$i"
              " || exit; done; echo OUT", "fill /tmp", "sized memory file systems"),
        shell("output", "head -c 8M /dev/zero | tr '\\0' 'x'; echo; echo OUT", "flood the output", "output limit",
              expect=f"{stopped}: too much output"),
        shell("time", "sleep 3; echo OUT", "run longer than allowed", DEADLINE, timeout=1, expect=stopped),
        shell("deaf", "trap '' TERM INT HUP QUIT; sleep 3; echo OUT", "ignore every signal that can be", DEADLINE,
              timeout=1, expect=stopped),
        shell("busy", "python3 -c 'import time\nend = time.time() + 3\nwhile time.time() < end: pass\nprint(\"OUT\")'",
              "never wait", DEADLINE, timeout=1, expect=stopped),
        prepare("mkdir -p node_modules; setsid nohup sh -c 'sleep 1; touch node_modules/late' >/dev/null 2>&1 & echo"),
        shell("daemon", "sleep 2; [ -e node_modules/late ] && echo OUT; true", "leave a daemon behind a command", DEADLINE,
              control="mkdir -p node_modules; (setsid nohup sh -c 'sleep 1; touch node_modules/late' >/dev/null 2>&1 &);"
              " sleep 2; [ -e node_modules/late ] && echo OUT"),
        shell("kill_all", "kill -9 -1; echo after", "kill every process that can be", "pid namespace", expect="after",
              no_control="it would end the host"),
        shell("forged_answer", "echo '{\"id\": 1, \"exit\": 0}'; exit 7", "answer in the init's place",
              "own socket, not inherited", expect="exit code 7", no_control="outside there is no such socket"),
    ])  # fmt: skip
