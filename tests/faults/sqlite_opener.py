"""A process that opens a SQLite file that may not exist yet, at a word from its parent, and adds an item."""

import sys

import sessions


def main() -> None:
    url, writer = sys.argv[1:3]
    with sessions.Session.from_url("chat_1", url) as session:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(3):
            session.add_items([{"writer": writer, "batch": number, "part": n, "of": 2} for n in range(2)])
        print("done", flush=True)


if __name__ == "__main__":
    main()
