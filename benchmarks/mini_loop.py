"""The peer: mini-swe-agent through its API, each command in bubblewrap.

Run by the peers' own Python: ``python mini_loop.py BASE_URL BWRAP FOLDER STEPS``. Its memory and
its end are printed as one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

base_url, bwrap, folder, steps = sys.argv[1:]
# Without these it writes a banner and tries three times to fetch a price list from the network.
os.environ |= {
    "MSWEA_SILENT_STARTUP": "1",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

from minisweagent.agents.default import DefaultAgent  # type: ignore[import-not-found] # noqa: E402 - peers only, after the settings
from minisweagent.environments.extra.bubblewrap import (  # type: ignore[import-not-found] # noqa: E402 - as above
    BubblewrapEnvironment,
)
from minisweagent.models.litellm_model import LitellmModel  # type: ignore[import-not-found] # noqa: E402 - as above

# The namespaces, mounts and limits that a sandbox of ours has, as far as they are flags.
FLAGS = [
    "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv",
    "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
    "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64", "--ro-bind-try", "/etc/alternatives", "/etc/alternatives",
    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--setenv", "PATH", "/usr/bin:/bin",
]  # fmt: skip

agent = DefaultAgent(
    LitellmModel(
        model_name="openai/scripted", model_kwargs={"api_base": base_url, "api_key": "none"}
    ),
    BubblewrapEnvironment(executable=bwrap, wrapper_args=FLAGS, cwd=folder),
    system_template="You are a helpful assistant that can interact with a computer.",
    instance_template="Solve this: {{task}}",
    step_limit=int(steps) + 5,
    cost_limit=0,
)
ended = agent.run("Make it so.")
status = Path("/proc/self/status").read_text()
print(
    json.dumps(
        {
            "ended": ended.get("exit_status"),
            "rss_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024,
        }
    )
)
