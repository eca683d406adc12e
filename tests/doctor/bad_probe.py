"""Stands for a probe whose engines misbehave: `crash` dies, `hang` is silent, others are fine."""

import json
import os
import signal
import sys
import time

TORCH = {"version": "x", "threads": 1, "cuda": None, "gpus": []}
FINE = {"name": "n", "device": "cpu", "slice_ms": 1, "network_ms": 1, "first_ms": 1, "load_s": 1}

print("a library says something")  # noqa: T201
print(json.dumps({"torch": TORCH}), flush=True)  # noqa: T201
for engine in sys.argv[4:]:
    if engine == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if engine == "hang":
        time.sleep(60)
    if engine == "leave":
        sys.exit("could not go on")
    print(json.dumps({"engine": engine, **FINE}), flush=True)  # noqa: T201
