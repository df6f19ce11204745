"""A Flask shop: the order and what the agent said about it are committed together, or not at all.

    python flask_orders.py [URL]

The application has its own connection, opened for a request and committed at its end.
Three lines make the agent's history a part of that transaction; they are marked.
"""

import sqlite3
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import Flask, Response, abort, g, jsonify, request

import sessions

Connection = Any


def create_app(open_connection: Callable[[], Connection]) -> Flask:
    """Make the application; open_connection() gives it a connection of sqlite3, psycopg or PyMySQL."""
    app = Flask(__name__)

    def database() -> Connection:
        if "database" not in g:
            g.database = open_connection()
        return g.database

    @app.teardown_appcontext
    def close(_: BaseException | None) -> None:
        if "database" in g:
            g.pop("database").close()  # what was not committed is gone

    @app.post("/chats/<chat_id>")
    def say(chat_id: str) -> Response:
        connection = database()
        article = request.get_json()["article"]
        session = sessions.bind(connection).session(chat_id)  # one
        session.add_items([{"role": "user", "content": f"I would like a {article}."}])  # two
        number = place_order(connection, article)
        session.add_items([{"role": "assistant", "content": f"Order {number} is placed."}])  # three
        connection.commit()
        return jsonify(order=number)

    @app.get("/chats/<chat_id>")
    def history(chat_id: str) -> Response:
        return jsonify(items=sessions.bind(database()).session(chat_id).get_items())

    return app


def place_order(connection: Connection, article: str) -> int:
    """Take the article from the stock and write the order; end the request where none is left."""
    taken = execute(connection, "UPDATE stock SET pieces = pieces - 1 WHERE article = %s AND pieces > 0", article)
    if not taken.rowcount:
        abort(409, "sold out")
    number = int(execute(connection, "SELECT COUNT(*) + 1 FROM orders").fetchone()[0])
    execute(connection, "INSERT INTO orders (number, article) VALUES (%s, %s)", number, article)
    return number


def execute(connection: Connection, statement: str, *parameters: object) -> Any:
    """Execute a statement of the application on any of the three drivers."""
    if isinstance(connection, sqlite3.Connection):
        statement = statement.replace("%s", "?")
    cursor = connection.cursor()
    cursor.execute(statement, parameters)
    return cursor


def connector(url: str) -> Callable[[], Connection]:
    """Give what opens the application's connections, without the library."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = url.removeprefix("sqlite:").removeprefix("///")
        return lambda: sqlite3.connect(path)
    if parts.scheme == "postgresql":
        import psycopg

        return lambda: psycopg.connect(url)
    import pymysql

    return lambda: pymysql.connect(
        host=str(parts.hostname),
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.strip("/"),
    )


def deploy(url: str) -> None:
    """Create the tables, the application's and ours, once."""
    connection = connector(url)()
    execute(connection, "CREATE TABLE stock (article VARCHAR(20) PRIMARY KEY, pieces INTEGER NOT NULL)")
    execute(connection, "CREATE TABLE orders (number INTEGER PRIMARY KEY, article VARCHAR(20) NOT NULL)")
    execute(connection, "INSERT INTO stock (article, pieces) VALUES (%s, 1)", "lamp")
    connection.commit()
    connection.close()
    with sessions.connect(url) as backend:
        backend.session("deployment").get_items()


def main(url: str) -> dict[str, Any]:
    """Order the last lamp, and then one more; return what is in the database."""
    deploy(url)
    client = create_app(connector(url)).test_client()
    statuses = [client.post(f"/chats/{name}", json={"article": "lamp"}).status_code for name in ("ann", "bob")]
    histories = {name: client.get(f"/chats/{name}").get_json()["items"] for name in ("ann", "bob")}
    connection = connector(url)()
    orders = [tuple(row) for row in execute(connection, "SELECT number, article FROM orders").fetchall()]
    connection.close()
    print(statuses, orders, histories)
    return {"statuses": statuses, "orders": orders, "histories": histories}


if __name__ == "__main__":
    main(*sys.argv[1:] or ["sqlite:shop.db"])
