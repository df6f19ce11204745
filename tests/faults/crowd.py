"""A process of threads that add, pop and read, and tell when they did: see test_concurrency.py."""

import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sessions

Record = tuple[str, float, float, Any]


def work_in_threads(backend: sessions.Backend, process: str, threads: int, operations: int, roles: str) -> list[Record]:
    """Let each thread do its role's operations; what each did, with the times around it."""
    gate = threading.Barrier(threads)

    def work(thread: int) -> list[Record]:
        rng, records, batches = random.Random(f"{process}.{thread}"), [], 0
        session, role = backend.session("chat_1"), roles[thread % len(roles)]
        gate.wait()
        for _ in range(operations):
            name = {"a": "add", "p": "pop", "r": "read", "m": rng.choice(("add", "pop", "read"))}[role]
            size, writer = rng.randint(1, 4), f"{process}.{thread}"
            items = [{"writer": writer, "batch": batches, "part": part, "of": size} for part in range(size)]
            result: Any = None
            started = time.monotonic()
            if name == "add":
                session.add_items(items)
                result, batches = (writer, batches, size), batches + 1
            elif name == "pop":
                result = session.pop_item()
            else:
                result = session.get_items()
            ended = time.monotonic()
            if name == "read":
                result = [(item["writer"], item["batch"], item["part"]) for item in result]
            records.append((name, started, ended, result))
        return records

    with ThreadPoolExecutor(threads) as pool:
        return [record for records in pool.map(work, range(threads)) for record in records]


def main() -> None:
    url, process, threads, operations, roles = sys.argv[1:6]
    # A session of 64 writers is waited for in a long queue.
    with sessions.connect(url, connection_timeout=60.0, statement_timeout=120.0, max_retries=10) as backend:
        backend.session("chat_1").position()
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(work_in_threads(backend, process, int(threads), int(operations), roles)))


if __name__ == "__main__":
    main()
