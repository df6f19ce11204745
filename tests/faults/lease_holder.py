"""A process that holds a conversation, and does what it is told to line by line."""

import sys
import time

import sessions


def shift_clocks(hours: float) -> None:
    """Let this process alone live in another time."""
    now, monotonic = time.time, time.monotonic
    time.time = lambda: now() + hours * 3600
    time.monotonic = lambda: monotonic() + hours * 3600


def main() -> None:
    url, session_id, lease, hours = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    shift_clocks(hours)
    with sessions.Session.from_url(session_id, url) as session:
        try:
            with session.exclusive(timeout=0, lease=lease):
                print("held", flush=True)
                for line in sys.stdin:
                    do(session, line.strip())
        except sessions.SessionsError as exc:
            print(type(exc).__name__, flush=True)


def do(session: sessions.Session, word: str) -> None:
    """Add an item, or go on adding them until one is refused."""
    number = 0
    try:
        while True:
            session.add_items([{"content": f"{word}{number}"}])
            print("written", f"{word}{number}", flush=True)
            number += 1
            if word != "many":
                return
    except sessions.SessionsError as exc:
        print(type(exc).__name__, flush=True)


if __name__ == "__main__":
    main()
