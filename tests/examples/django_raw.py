"""A Django view that writes the history on Django's own connection, in Django's transaction; no model, no app.

    python django_raw.py [URL]

`connection.connection` is the driver's connection inside Django's. PyMySQL takes
mysqlclient's place, which Django allows but does not promise to go on working.
"""

import json
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

import sessions


def say(request: HttpRequest, chat_id: str) -> JsonResponse:
    """Place an order and remember the conversation about it; a failure undoes both."""
    article = json.loads(request.body)["article"]
    with transaction.atomic():
        session = sessions.bind(connection.connection).session(chat_id)
        session.add_items([{"role": "user", "content": f"I would like a {article}."}])
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders (article) VALUES (%s)", [article])
        if article == "unicorn":
            raise LookupError("there are no unicorns")
        session.add_items([{"role": "assistant", "content": "Your order is placed."}])
    return JsonResponse({"items": session.get_items()})


urlpatterns = [path("chats/<str:chat_id>", say)]


def database_of(url: str) -> dict[str, Any]:
    """Write a URL as Django's DATABASES has it."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:").removeprefix("///")}
    if parts.scheme != "postgresql":
        import pymysql

        # The version of mysqlclient that Django looks for.
        pymysql.version_info = (2, 2, 1, "final", 0)
        pymysql.install_as_MySQLdb()
    return {
        "ENGINE": f"django.db.backends.{'postgresql' if parts.scheme == 'postgresql' else 'mysql'}",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": parts.path.strip("/"),
    }


def main(url: str) -> None:
    """Order a lamp and a unicorn; print what is in the database."""
    settings.configure(
        DATABASES={"default": database_of(url)},
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["testserver"],
        SECRET_KEY="for a test",
        USE_TZ=True,
    )
    django.setup()
    from django.test import Client

    with sessions.connect(url) as backend, connection.cursor() as cursor:
        backend.session("deployment").get_items()
        cursor.execute("CREATE TABLE orders (article VARCHAR(20) NOT NULL)")

    client = Client(raise_request_exception=False)
    for article in ("lamp", "unicorn"):
        client.post(f"/chats/about-a-{article}", json.dumps({"article": article}), content_type="application/json")

    with connection.cursor() as cursor:
        cursor.execute("SELECT article FROM orders")
        orders = [article for (article,) in cursor.fetchall()]
    chats = sessions.bind(connection.connection)
    histories = {name: chats.session(f"about-a-{name}").get_items() for name in ("lamp", "unicorn")}
    connection.close()
    print(json.dumps({"orders": orders, "histories": histories}))


if __name__ == "__main__":
    main(*sys.argv[1:] or ["sqlite:shop.db"])
