"""The yardstick where no peer is installed: the smallest loop there can be.

``python floor_loop.py BASE_URL FOLDER STEPS``: http.client, the history kept as serialised
fragments, ``bash -c`` without a sandbox, nothing written down.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    base_url, folder, steps = sys.argv[1:]
    parts = urlsplit(base_url)
    line = http.client.HTTPConnection(parts.netloc)
    history = [json.dumps({"role": "user", "content": "Make it so."})]
    for _ in range(int(steps) + 1):
        body = f'{{"model":"scripted","messages":[{",".join(history)}]}}'
        line.request("POST", f"{parts.path}/chat/completions", body.encode())
        message = json.loads(line.getresponse().read())["choices"][0]["message"]
        call = message["tool_calls"][0]
        command = json.loads(call["function"]["arguments"])["command"]
        done = subprocess.run(["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE)
        output = {"role": "tool", "tool_call_id": call["id"], "content": done.stdout.decode()}
        history += [json.dumps(message), json.dumps(output)]
    status = Path("/proc/self/status").read_text()
    print(
        json.dumps(
            {"ended": "Submitted", "rss_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024}
        )
    )


if __name__ == "__main__":
    main()
