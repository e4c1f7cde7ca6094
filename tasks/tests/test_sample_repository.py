"""The sample repository is the same everywhere, and fails its own tests in one place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from repositories.git.command import git
from tasks.analysis import checks
from tasks.sample.install import REVIEW_BRANCH, history, install_sample
from tasks.tests.trees import real_sandbox, sample_files

MAIN = "a456a0e"
RATES = "b33eacb"


def heads(repository: Path) -> dict[str, str]:
    lines = git("for-each-ref", "--format=%(refname:short) %(objectname)", git_dir=repository)
    return dict(line.split() for line in lines.decode().splitlines())


def test_the_commits_have_the_same_ids_everywhere(tmp_path: Path) -> None:
    first, second = install_sample(tmp_path / "a"), install_sample(tmp_path / "b")
    assert heads(first) == heads(second)
    assert heads(first)["main"].startswith(MAIN)
    assert heads(first)[REVIEW_BRANCH].startswith(RATES)


def test_the_history_is_sound(tmp_path: Path) -> None:
    repository = install_sample(tmp_path)
    git("fsck", "--strict", git_dir=repository)
    assert int(git("rev-list", "--count", "main", git_dir=repository)) == len(history()) - 1
    assert git("merge-base", "main", REVIEW_BRANCH, git_dir=repository).decode().startswith(MAIN)


def test_an_installed_sample_is_left_alone(tmp_path: Path) -> None:
    repository = install_sample(tmp_path)
    git("update-ref", "refs/heads/work", "main", git_dir=repository)
    assert install_sample(tmp_path) == repository
    assert "work" in heads(repository)


def test_several_may_install_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(install_sample, [tmp_path] * 4))
    assert len(set(places)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ledgerly.git"]
    assert "main" in heads(places[0])


def test_one_test_of_the_sample_fails(tmp_path: Path) -> None:
    with real_sandbox(tmp_path, sample_files(tmp_path)) as sandbox:
        assert checks.detect(sandbox) == ["python -m pytest -q"]
        record = checks.run(sandbox, "python -m pytest -q")
    assert record.verdict == "failed"
    assert "1 failed, 17 passed" in record.output
    assert "test_an_imported_invoice_in_yen_has_no_cents" in record.output
