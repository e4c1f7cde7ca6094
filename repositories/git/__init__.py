"""Git as the platform uses it: plain functions, no Django, every call through one helper.

The host never runs git with a work tree that a sandbox could write. Work trees are handled
inside the sandbox by CHECKPOINT_SCRIPT, RESTORE_SCRIPT and MADE_SCRIPT; only objects come out.
"""

from __future__ import annotations

from repositories.git.errors import (
    AuthenticationFailed,
    BranchMissing,
    CheckpointBad,
    CloneFailed,
    GitFailed,
    GitMissing,
    GitTimedOut,
    OutputTooLarge,
    PatchRefused,
    PushRefused,
    RepositoryEmpty,
    RepositoryTooLarge,
)
from repositories.git.growth import disk_use
from repositories.git.hosting import is_ancestor, write_repository, write_zip
from repositories.git.mirror import (
    Branch,
    Heads,
    absent_commits,
    default_branch,
    ensure_mirror,
    fetch_commit,
    is_valid_branch,
    list_branches,
    locked,
    merge_base,
    remote_heads,
    resolve_commit,
)
from repositories.git.objects import (
    ChangedFile,
    TreeEntry,
    changed_files,
    changed_lines,
    diff,
    list_tree,
    sensitive_changes,
    show_file,
)
from repositories.git.origin import create_origin, is_safe_path
from repositories.git.push import (
    apply_patch_tree,
    final_commit,
    push_branch,
    remote_branch,
    write_bundle,
)
from repositories.git.remotes import Credential, Remote
from repositories.git.store import (
    CHECKPOINT_SCRIPT,
    MADE_SCRIPT,
    RESTORE_SCRIPT,
    Checkpoint,
    PackLimits,
    accept_checkpoint,
    accept_final,
    borrowed_from,
    create_store,
    keep_ref,
    pack_commit,
)
from repositories.git.workspace import TreeLimits, build_base, prune_bases

__all__ = [
    "CHECKPOINT_SCRIPT",
    "MADE_SCRIPT",
    "RESTORE_SCRIPT",
    "AuthenticationFailed",
    "Branch",
    "BranchMissing",
    "ChangedFile",
    "Checkpoint",
    "CheckpointBad",
    "CloneFailed",
    "Credential",
    "GitFailed",
    "GitMissing",
    "GitTimedOut",
    "Heads",
    "OutputTooLarge",
    "PackLimits",
    "PatchRefused",
    "PushRefused",
    "Remote",
    "RepositoryEmpty",
    "RepositoryTooLarge",
    "TreeEntry",
    "TreeLimits",
    "absent_commits",
    "accept_checkpoint",
    "accept_final",
    "apply_patch_tree",
    "borrowed_from",
    "build_base",
    "changed_files",
    "changed_lines",
    "create_origin",
    "create_store",
    "default_branch",
    "diff",
    "disk_use",
    "ensure_mirror",
    "fetch_commit",
    "final_commit",
    "is_ancestor",
    "is_safe_path",
    "is_valid_branch",
    "keep_ref",
    "list_branches",
    "list_tree",
    "locked",
    "merge_base",
    "pack_commit",
    "prune_bases",
    "push_branch",
    "remote_branch",
    "remote_heads",
    "resolve_commit",
    "sensitive_changes",
    "show_file",
    "write_bundle",
    "write_repository",
    "write_zip",
]  # fmt: skip
