"""A process that writes to a SQLite file until it is killed, and says what was acknowledged."""

import random
import sys

import sessions


def main() -> None:
    url, session_id, seed = sys.argv[1:4]
    rng = random.Random(seed)
    # Sizes of a kind that fills the write-ahead log, so that some writes are checkpoints too.
    filling = "x" * rng.choice((10, 1000, 4000))
    with sessions.Session.from_url(session_id, url) as session:
        session.position()
        print("ready", flush=True)
        for number in range(1_000_000):
            size = rng.randint(1, 8)
            print("begin", number, size, flush=True)
            session.add_items(
                [{"writer": "w", "batch": number, "part": n, "of": size, "filling": filling} for n in range(size)]
            )
            print("acknowledged", number, size, flush=True)


if __name__ == "__main__":
    main()
