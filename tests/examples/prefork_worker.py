"""A worker that forks its processes after it has set everything up, as Celery's prefork pool does.

    python prefork_worker.py [URL]

The backend is made, and used, before the fork. Nothing has to be done in the children:
each opens connections of its own, and the parent's stay the parent's.
"""

import multiprocessing
import os
import sys
from typing import Any

import sessions

PROCESSES = 4

backend: sessions.Backend


# With Celery: @app.task
def remember(chat_id: str, text: str) -> int:
    """Append to a conversation; return the process that did it."""
    backend.session(chat_id).add_items([{"role": "user", "content": text}])
    return os.getpid()


def work(tasks: Any, done: Any) -> None:
    """Take tasks until there are no more."""
    while (task := tasks.get()) is not None:
        done.put(remember(*task))


def main(url: str) -> dict[str, Any]:
    """Work off some tasks; return the histories' lengths and how many processes took part."""
    global backend
    fork = multiprocessing.get_context("fork")
    tasks, done = fork.SimpleQueue(), fork.SimpleQueue()
    with sessions.connect(url) as backend:
        backend.session("chat_0").add_items([{"role": "user", "content": "before the fork"}])
        processes = [fork.Process(target=work, args=(tasks, done)) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        for number in range(24):
            tasks.put((f"chat_{number % 3}", f"task {number}"))
        for _ in processes:
            tasks.put(None)
        workers = {done.get() for _ in range(24)}
        for process in processes:
            process.join()
        lengths = [len(backend.session(f"chat_{number}").get_items()) for number in range(3)]
    print(f"{len(workers)} processes wrote {lengths}")
    return {"lengths": lengths, "exits": [process.exitcode for process in processes], "here": os.getpid() in workers}


if __name__ == "__main__":
    main(*sys.argv[1:] or ["sqlite:chat.db"])
