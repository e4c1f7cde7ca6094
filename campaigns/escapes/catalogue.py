"""Every attempt by name: what is tried and what holds it. The table's words stand here alone."""

from __future__ import annotations

from dataclasses import dataclass

from campaigns.escapes.bait import calls

NAMESPACE = "pid namespace"
EMPTY = "empty environment, closed descriptors"
HIDDEN = "first process not dumpable"
MOUNTS = "only named folders are mounted, read-only"
FILTER = "system-call filter"
NETWORK = "network namespace"
NO_PRIVILEGE = "no capabilities, no new privileges"
OTHER_USER = "own user namespace"
KERNEL_HOLE = "a hole of old kernels"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row. ``no_control`` says why the same cannot succeed outside, where it cannot."""

    tried: str
    defence: str
    no_control: str = ""


PROBES: dict[str, tuple[str, ...]] = {
    # The self-test's own (tasks/sandbox/probe.py).
    "environment": ("read the own environment", EMPTY),
    "environment_of_processes": ("read every /proc/PID/environ", EMPTY),
    "host_processes": ("see processes of the host", NAMESPACE),
    "signal_to_host": ("signal a process of the host", NAMESPACE),
    "host_file": ("read a file of the host that everybody may read", MOUNTS),
    "write_outside": ("write into a folder that everybody may write", MOUNTS),
    "hard_link": ("hard-link a file of the host into the workspace", MOUNTS),
    "device_node": ("make a disk's device node", NO_PRIVILEGE),
    "user_namespace": ("make a user namespace inside", FILTER),
    "capabilities": ("have any capability", NO_PRIVILEGE),
    "new_privileges": ("be able to gain privileges", NO_PRIVILEGE),
    "unfiltered": ("make system calls without a filter", FILTER),
    "loopback": ("connect to the host's 127.0.0.1", NETWORK),
    "interfaces": ("see another interface than loopback", NETWORK),
    "abstract_socket": ("connect to an abstract UNIX socket of the host", NETWORK),
    "path_socket": ("connect to a UNIX socket in a folder of the host", MOUNTS),
    "socket_families": ("make NETLINK, VSOCK, PACKET and ALG sockets", FILTER),
    "inherited_file": ("read a descriptor that the worker left open", EMPTY),
    "terminal_injection": ("type into the worker's terminal (TIOCSTI)", FILTER),
    "foreign_calls": ("make 32-bit system calls", FILTER),
    "first_process": ("open memory, environment and descriptors of PID 1", HIDDEN),
    "processes": ("fork past the limit", "process limit of the sandbox"),
    # Processes.
    "arguments_of_processes": ("read every /proc/PID/cmdline", NAMESPACE),
    "roots_of_processes": ("reach the host by /proc/PID/root and /proc/PID/cwd", NAMESPACE),
    "descriptors_of_processes": ("read every /proc/PID/fd", NAMESPACE),
    "memory_of_processes": ("read every process's environment in /proc/PID/mem", NAMESPACE),
    "trace_process": ("trace a process of the host", FILTER),
    "stop_first_process": ("stop the sandbox's first process", NAMESPACE),
    "limit_first_process": ("take the first process's limits away", FILTER),
    "doom_first_process": ("name the first process to the memory killer", HIDDEN),
    "replace_first_program": (
        "overwrite the running init's program (/proc/1/exe)", MOUNTS, "the kernel refuses it for any that runs"),
    "kill_first_process": ("kill the sandbox's first process", NAMESPACE),
    "extra_descriptors": ("find descriptors besides 0, 1 and 2", EMPTY),
    # The kernel's files.
    "core_pattern": ("open /proc/sys/kernel/core_pattern for writing", OTHER_USER),
    "kernel_settings": ("open modprobe, hostname and others in /proc/sys for writing", OTHER_USER),
    "system_request": ("open /proc/sysrq-trigger for writing", OTHER_USER),
    "kernel_memory": ("open /proc/kcore, /dev/mem, /dev/port", MOUNTS),
    "kernel_log": ("open /dev/kmsg and /proc/kmsg", MOUNTS),
    "devices": ("open a disk, fuse, kvm, tun", MOUNTS),
    "files_of_sys": ("read /sys", MOUNTS),
    "control_groups": ("move to another control group", MOUNTS),
    "copy_on_write": ("change a system file by /proc/self/mem", "the kernel", KERNEL_HOLE),
    "pipe_into_file": ("change a system file through a spliced pipe", "the kernel", KERNEL_HOLE),
    # Files of the host.
    "symbolic_link": ("follow a symbolic link to a file of the host", MOUNTS),
    "magic_links": ("read it by /proc/self/root, /proc/self/cwd, /proc/self/fd and ..", MOUNTS),
    "shadow_file": ("read /etc/shadow", MOUNTS),
    "host_name": ("learn the host's name", "uts namespace"),
    "platform_files": ("open the platform's database, secrets and logs", MOUNTS),
    "foreign_mirror": ("open another tenant's mirror", MOUNTS),
    "foreign_task": ("open another tenant's checkpoints", MOUNTS),
    "system_folders": ("make a file in /, /usr, /etc, /var, /dev, /run …", MOUNTS),
    "toolchain": ("make a file in the platform's Python", MOUNTS),
    "own_mirror": ("make a file in the mirror behind the workspace", MOUNTS),
    # Privileges.
    "become_root": ("setuid(0)", OTHER_USER),
    "give_to_root": ("give a file to root", OTHER_USER),
    "file_capability": ("give a file all capabilities", NO_PRIVILEGE),
    "trusted_attribute": ("write the overlay's own attributes", NO_PRIVILEGE),
    "other_namespaces": ("make mount, pid, net, ipc and uts namespaces", FILTER),
    "namespaces_of_processes": ("join the namespaces of every process", FILTER),
    "mount_something": ("mount a file system", FILTER),
    "bind_something": ("bind-mount a folder", FILTER),
    "unmount_something": ("unmount /proc", FILTER),
    "change_root": ("chroot", FILTER),
    "raise_limits": ("raise the hard limits again", NO_PRIVILEGE),
    "raise_priority": ("run before all others (a lower nice value)", NO_PRIVILEGE),
    "escape_the_memory_killer": ("hide from the memory killer", NO_PRIVILEGE),
    "session_key": ("read a key of the worker's session keyring", FILTER),
    # Network.
    "datagram": ("ask a name server on the host for a secret's name", NETWORK),
    "loopback_v6": ("connect to the host's ::1", NETWORK),
    "raw_socket": ("make a raw socket", NO_PRIVILEGE),
    "other_families": ("make sockets of every other family", FILTER),
    "names_of_sockets": ("list the host's UNIX sockets", NETWORK),
    "platforms_redis": ("connect to the platform's Redis", "network namespace, mounts"),
    "model_server": ("connect to the model's own server", NETWORK),
    "platforms_proxy": (
        "connect to the platform's proxy", "none without a list of hosts", "there is none outside either"),
}  # fmt: skip


def probes() -> dict[str, Attempt]:
    """Return the attempts that are made from inside, in the table's order."""
    system_calls = {f"call_{name}": (f"the system call {name}", FILTER) for name in calls()}
    return {name: Attempt(*words) for name, words in (PROBES | system_calls).items()}
