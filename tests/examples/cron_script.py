"""A nightly job that shortens long conversations, while their users go on talking.

    python cron_script.py URL CHAT_ID...

In crontab: 0 3 * * *  python cron_script.py "$DATABASE_URL" ann bob

Its exit status tells whether something went wrong; a conversation that grew meanwhile is left for tomorrow.
"""

import sys

import sessions

KEPT = 4


def shorten(session: sessions.Session) -> str:
    """Put a summary in place of all but the newest items; say what was done."""
    position = session.position()
    history = session.get_items()
    if len(history) <= KEPT:
        return "is short enough"
    summary = {"role": "system", "content": f"{len(history) - KEPT} earlier items were removed."}
    try:
        session.replace_items([summary, *history[-KEPT:]], if_position=position)
    except sessions.ConflictError:
        return "is being talked in; tomorrow"
    return f"was shortened from {len(history)} to {KEPT + 1} items"


def main(url: str, *chat_ids: str) -> int:
    """Shorten each conversation; return the exit status."""
    failures = 0
    # The tables are there, or the job is run against the wrong database: it must not create any.
    with sessions.connect(url, create_tables=False, max_retries=5) as backend:
        for chat_id in chat_ids:
            try:
                print(chat_id, shorten(backend.session(chat_id)))
            except sessions.SessionsError as error:
                failures += 1
                print(chat_id, error, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
