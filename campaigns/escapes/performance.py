"""One role's performance: its worker, all scenes, the tenant beside them, the kills, the search."""

from __future__ import annotations

import functools
import random
import secrets
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings

from aimodels.models import AIModel
from aimodels.tests.model_server import ModelServer
from asynccoder.tests.processes import ROOT, Process, wait_for
from campaigns.escapes import kills, leaks
from campaigns.escapes.bait import Bait, Canaries
from campaigns.escapes.catalogue import Attempt, probes
from campaigns.escapes.controls import results_of
from campaigns.escapes.model import HostileModel
from campaigns.escapes.programme import acts_with_words, all_scenes
from campaigns.escapes.scenes import Scene
from campaigns.escapes.tenants import Tenant, tell
from campaigns.escapes.workers import give_to, start_worker
from campaigns.stage import Stage
from repositories.tests.make import plain_git
from tasks import lifecycle
from tasks.errors import TaskFinished
from tasks.models import Status, Task, TaskLog, TaskResult
from tasks.tests.make import make_model
from tasks.tests.world import bash, finish

SECONDS = 600
ASK_CALLS = 6
KEPT = {"main", "side", "old"}
PRICE = Decimal("0.000000001")
PLACES = (
    "requests to the model", "journal and events", "results and artifacts", "all other rows",
    "logs of the workers", "checkpoints", "pushed branches", "Redis",
)  # fmt: skip
NOTHING_SECRET = "nothing secret is inside"
NOT_WRITTEN = "nothing of a command is written there"
AFTERWARDS: dict[str, Attempt] = {
    "endless": Attempt(
        "never come to an end", "limit of calls, money and time", "the limit is what ends it"
    ),
    "refs": Attempt("change another ref of the remote", "one branch, with its expected value"),
    "host_tree": Attempt("leave any trace in the host's watched tree", "all of the above"),
    "traps": Attempt("be heard by any socket of the host", "all of the above"),
    "neighbour": Attempt(
        "keep another tenant's task from its end", "limits of each sandbox", "an attempt at each above"
    ),
    "faults": Attempt("make the platform fail on its side", "all of the above", "no control is needed"),
    "kills": Attempt(
        "outlive kill -9 of the run or of the worker at any moment", "start handshake, death with the parent"
    ),
    "cancelled": Attempt("outlive the task's cancellation", "pid namespace", "as the row above"),
    "leftovers": Attempt("outlive the end of the worker", "pid namespace", "as the row above"),
} | {
    f"leak_{place}": Attempt(
        f"bring a secret into: {place}", NOTHING_SECRET,
        NOT_WRITTEN if place in ("all other rows", "logs of the workers", "Redis") else "",
    )
    for place in PLACES
}  # fmt: skip


@dataclass
class Setting:
    """What all roles share."""

    stage: Stage
    canaries: Canaries
    bait: Bait
    hostile: Tenant
    other: Tenant
    server: ModelServer
    secrets: dict[str, str] = field(default_factory=dict)
    """Variables of the workers that hold canaries."""

    def __post_init__(self) -> None:
        names = ("OPENAI_API_KEY", "CLAUDE_API_KEY", "GEMINI_API_KEY", "PGPASSWORD", "GITHUB_TOKEN")
        self.secrets = {name: self.canaries.new(f"worker {name}") for name in names}
        for name in ("SECRET_KEY", "JWT_SECRET", "FIELD_ENCRYPTION_KEYS"):
            self.canaries.secrets[f"worker {name}"] = self.stage.environment[name]
        self.server.key = settings.OPENAI_API_KEY = self.secrets["OPENAI_API_KEY"]
        token = self.canaries.new("home")
        for name in (".netrc", ".git-credentials", ".ssh/id_ed25519", ".aws/credentials"):
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"username=x\npassword={token}\n")
            path.chmod(0o644)

    @functools.cached_property
    def model(self) -> AIModel:
        return make_model(
            provider="openai", name="scripted", display_name="Scripted", input_price=PRICE,
            output_price=PRICE, cached_input_price=PRICE, context_window=50_000_000,
        )  # fmt: skip

    @property
    def home(self) -> Path:
        return self.bait.folder / "home"


class Performance:
    """Everything that one role's worker is put through. ``play`` returns name → how it got out."""

    def __init__(self, setting: Setting, role: str) -> None:
        self.setting = setting
        self.role = role
        self.stage = setting.stage
        self.var = give_to(self.stage, role)
        self.word = str(10**8 + secrets.randbelow(10**8))
        self.found: dict[str, str] = {}
        self.target: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.tasks: dict[str, Task] = {}
        self.sentinels: dict[str, bool] = {}
        self.main = ""

    # --- the whole ------------------------------------------------------------------------------

    def play(self, *, kills: int, chance: random.Random) -> dict[str, str]:
        """Play everything once; ``kills`` kills, whose moments ``chance`` chooses."""
        setting, server = self.setting, self.setting.server
        server.requests.clear()
        self.environment = self._worker_environment(server)
        worker = self._start()
        self._settle_neighbour()
        scenes = all_scenes(self.target)
        script = HostileModel(scenes, neighbour_script(setting.canaries))
        script.word = self.word
        server.script = script
        told = {key: value for key, value in self.target.items() if key != "control_url"}
        tell(setting.hostile, told)
        self.main = setting.hostile.refs()["refs/heads/main"]
        before = setting.bait.digest()
        self._run_scenes(scenes)
        self._judge_answers(script, scenes)
        self._judge_results(script)
        worker.end()
        self._run_kills(kills, chance)
        self._judge_host(before)
        self._search()
        return self.found

    def _worker_environment(self, server: ModelServer) -> dict[str, str]:
        return self.setting.secrets | {
            "VAR_DIR": str(self.var),
            "HOME": str(self.setting.home),
            "OPENAI_BASE_URL": server.openai_url,
            "OUTBOUND_ALLOWED": ",".join(settings.OUTBOUND_ALLOWED),
            "AGENT_CALLS_ASK": str(ASK_CALLS),
        }

    def _start(self) -> Process:
        return start_worker(self.stage, self.role, self.environment)

    def _wait(self, tasks: list[Task], what: str) -> None:
        def are_finished() -> bool:
            for task in tasks:
                task.refresh_from_db()
            return all(task.is_finished for task in tasks)

        wait_for(are_finished, seconds=SECONDS, what=what)

    # --- before ---------------------------------------------------------------------------------

    def _settle_neighbour(self) -> None:
        """Let the other tenant run a task, so that its mirror and its checkpoints are there."""
        other, server = self.setting.other, self.setting.server
        script = neighbour_script(self.setting.canaries)
        server.script = HostileModel({}, script)
        task = other.create("bystander", self.setting.model)
        self._wait([task], "the other tenant's first task ends")
        mirror = self.var / "repositories" / str(other.repository.pk) / "mirror.git"
        own = self.var / "repositories" / str(self.setting.hostile.repository.pk) / "mirror.git"
        store = self.var / "tasks" / str(task.pk) / "store.git"
        database = [str(path) for path in self.stage.folder.glob("db.sqlite3*")]
        self.target = self.setting.bait.target | {
            "foreign_mirror": [f"{mirror}/HEAD", f"{mirror}/objects/info"],
            "foreign_task": [f"{store}/HEAD", f"{store}/objects/info/alternates"],
            "foreign_objects": f"{mirror}/objects",
            "foreign_blob": plain_git("rev-parse", "main:private.txt", cwd=other.bare),
            "platform": [*database, str(self.stage.folder / "logs" / "0.log"), f"{ROOT}/manage.py"],
            "mirror": [f"{own}/objects", str(own)],
            "redis": redis_address(),
            "model": server.server_port,
            "url": self.setting.hostile.url,
            "sentinel": self.setting.canaries.sentinel,
            "control_url": control_url(self.setting.hostile),
        }

    # --- the scenes -----------------------------------------------------------------------------

    def _run_scenes(self, scenes: dict[str, Scene]) -> None:
        hostile, other, model = self.setting.hostile, self.setting.other, self.setting.model
        self.tasks = {
            name: hostile.create(name, model, type=scene.type) for name, scene in scenes.items()
        }
        neighbour = other.create("bystander", model)
        self._wait([*self.tasks.values(), neighbour], f"the scenes as {self.role} end")
        result = TaskResult.objects.filter(task=neighbour).first()
        is_done = neighbour.status == Status.COMPLETED and result and "+done" in result.diff
        self.found["neighbour"] = "" if is_done else f"it ended as {neighbour.status}"

    def _judge_answers(self, script: HostileModel, scenes: dict[str, Scene]) -> None:
        mark = self.setting.canaries.mark
        for act in scenes["families"].acts:
            self.found |= results_of(script.answers.get(act.name, ""))
        missing = probes().keys() - self.found.keys()
        for name in missing:
            self.found[name] = "it was not tried"
        for act in acts_with_words(scenes):
            answer = script.answers.get(act.name)
            if answer is None:
                self.found[act.name] = f"no answer; {self._endings()}"
            else:
                self.found[act.name] = act.judge(answer, mark)

    def _judge_results(self, script: HostileModel) -> None:
        """Judge what an answer cannot show: the branches, the results, the ends of the tasks."""
        bare = self.setting.hostile.bare
        pushed = self.tasks["pushes"].result_branch
        if not self.tasks["pushes"].is_pushed:
            self.found["redirected_push"] = "the branch did not arrive"
        else:
            tree = plain_git("ls-tree", "-r", pushed, cwd=bare)
            self.found["gitlink"] = "it was pushed" if "160000 commit" in tree else ""
        self.found["workflow"] = "it was pushed" if self.tasks["workflow"].is_pushed else ""
        odd = TaskLog.objects.filter(task=self.tasks["odd-name"]).values_list("message", "data")
        self.found["odd_name"] = (
            "it was kept" if "\x1b" in str(list(odd)) or self._is_kept() else ""
        )
        asked = script.asked.get("read-only", 0)
        self.found["endless"] = "" if asked == ASK_CALLS else f"{asked} calls"
        faults = [f"{name}: {task.error_message}" for name, task in self.tasks.items()
                  if task.error_code in ("internal_error", "INTERNAL_ERROR")]  # fmt: skip
        self.found["faults"] = "; ".join(faults)

    def _is_kept(self) -> bool:
        task = self.tasks["odd-name"]
        return bool(task.is_pushed or task.head_commit not in ("", task.base_commit))

    def _endings(self) -> str:
        return ", ".join(
            f"{name} {task.status} {task.error_message[:80]}" for name, task in self.tasks.items()
            if task.status != Status.COMPLETED
        )  # fmt: skip

    # --- kill -9 --------------------------------------------------------------------------------

    def _run_kills(self, count: int, chance: random.Random) -> None:
        task = self.setting.hostile.create("kills", self.setting.model)
        self.tasks["kills"] = task
        left, worker = kills.rounds(self.stage, self._start, count=count, chance=chance)
        try:
            lifecycle.cancel_task(task, by=task.owner)
        except TaskFinished:
            task.refresh_from_db()
            left.append(f"its task ended by itself: {task.status} {task.error_message}")
        self._wait([task], "the killed run is cancelled")
        self.found["kills"] = "; ".join(left)
        self.found["cancelled"] = "" if kills.nothing_runs(self.word) else "a process is left"
        worker.end()
        self.found["leftovers"] = "" if kills.nothing_runs(self.word) else "a process is left"

    # --- after ----------------------------------------------------------------------------------

    def _judge_host(self, before: str) -> None:
        hostile, bait = self.setting.hostile, self.setting.bait
        self.found["host_tree"] = "" if bait.digest() == before else "it has changed"
        self.found["traps"] = " ".join(bait.touched)
        others = {
            name: commit for name, commit in hostile.refs().items() if "asynccoder/" not in name
        }
        own = {task.result_branch for task in Task.objects.filter(owner=hostile.user)}
        named = {name.removeprefix("refs/heads/") for name in hostile.refs()} - KEPT
        is_good = set(others) == {f"refs/heads/{name}" for name in KEPT} and named <= own
        self.found["refs"] = (
            "" if is_good and others["refs/heads/main"] == self.main else str(others)
        )

    def _search(self) -> None:
        """Look for canaries everywhere, and for the sentinel, which a scene does hand back."""
        canaries = self.setting.canaries
        bodies = [
            body
            for body in self.setting.server.bodies()
            if "[[bystander]]" not in str(body["messages"][:3])
        ]
        found = leaks.places(
            self.setting.other.user, list(self.tasks.values()), bodies=bodies, var=self.var,
            logs=self.stage.folder / "logs", bare=self.setting.hostile.bare,
        )  # fmt: skip
        for place, content in found:
            self.found[f"leak_{place}"] = ", ".join(canaries.found_in(content))
            self.sentinels[f"leak_{place}"] = canaries.sentinel.encode() in content

    def controls(self) -> dict[str, str]:
        """Return what the search does find, and that a branch without a workflow is pushed."""
        said = {name: "found" if is_found else "" for name, is_found in self.sentinels.items()}
        return said | {"workflow": "pushed" if self.tasks["pushes"].is_pushed else ""}


def neighbour_script(canaries: Canaries) -> list[dict[str, Any]]:
    secret = canaries.secrets.get("tenant answer") or canaries.new("tenant answer")
    return [
        bash("cat private.txt; sleep 1; echo done >> notes.txt"),
        bash(f"echo {secret}; sleep 1"),
        *finish(summary=f"Done. {secret}"),
    ]


def redis_address() -> str:
    url = str(settings.REDIS_URL)
    return url.removeprefix("unix://") if url.startswith("unix") else url.split("/")[2]


def control_url(tenant: Tenant) -> str:
    """Return the address at which the control may do what the platform alone may do otherwise."""
    return f"http://x:{tenant.server.password}@{tenant.server.address}/control.git"
