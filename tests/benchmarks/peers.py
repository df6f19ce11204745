"""The peers: other libraries, each used as it is quickest from a synchronous program."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from benchmarks.corpus import Item
from benchmarks.stores import Store
from support.servers import dialect_of


class _OnLoop(Store):
    """Asynchronous sessions as a synchronous program uses them best: on one event loop that is kept."""

    needs = ("agents", "sqlalchemy")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.loop = asyncio.new_event_loop()

    def session(self, session_id: str) -> Any:
        raise NotImplementedError

    def handle(self, session_id: str) -> Any:
        return _AsyncHandle(self.loop, self.session(session_id))

    def run_at_once(self, handles: Sequence[Any], turns: int, batch: list[Item]) -> None:
        async def work(session: Any) -> None:
            for _ in range(turns):
                await session.get_items(limit=20)
                await session.add_items(batch)

        async def all_of_them() -> None:
            await asyncio.gather(*[work(handle.session) for handle in handles])

        self.loop.run_until_complete(all_of_them())

    def close(self) -> None:
        self.loop.close()


class _AsyncHandle:
    def __init__(self, loop: asyncio.AbstractEventLoop, session: Any) -> None:
        self._run = loop.run_until_complete
        self.session = session

    def get(self, limit: int | None = None) -> list[Any]:
        return list(self._run(self.session.get_items(limit=limit)))

    def stream(self) -> Iterator[Any]:
        # There is no streaming: all of it is held.
        return iter(self.get())

    def add(self, items: list[Item]) -> None:
        self._run(self.session.add_items(items))

    def pop(self) -> Any:
        return self._run(self.session.pop_item())

    def clear(self) -> None:
        self._run(self.session.clear_session())


class SDKSQLite(_OnLoop):
    name = "SDK SQLiteSession"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._sessions: list[Any] = []

    def session(self, session_id: str) -> Any:
        from agents import SQLiteSession

        session = SQLiteSession(session_id, unquote(self.url.partition(":")[2].removeprefix("///")))
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        super().close()


def _sqlalchemy_url(url: str, driver: str) -> str:
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return f"sqlite+{driver}:///{rest.removeprefix('///')}"
    return f"{scheme.replace('mariadb', 'mysql')}+{driver}:{rest}"


class SDKSQLAlchemy(_OnLoop):
    """SQLAlchemySession on our tables, which it shares."""

    driver: str

    def __init__(self, url: str) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        super().__init__(url)
        self._engine = create_async_engine(_sqlalchemy_url(url, self.driver))

    def session(self, session_id: str) -> Any:
        from agents.extensions.memory import SQLAlchemySession

        return SQLAlchemySession(session_id, engine=self._engine, create_tables=False)

    def close(self) -> None:
        self.loop.run_until_complete(self._engine.dispose())
        super().close()


class SDKAsyncpg(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy asyncpg", "asyncpg"


class SDKPsycopg(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy psycopg", "psycopg"


class SDKAiomysql(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy aiomysql", "aiomysql"


class SDKAiosqlite(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy aiosqlite", "aiosqlite"


# --- LangChain's histories


class LangChainSQL(Store):
    """SQLChatMessageHistory: each message with its item in additional_kwargs."""

    name = "LangChain SQL"
    needs = ("langchain_community",)
    limits = False

    def __init__(self, url: str) -> None:
        from sqlalchemy import create_engine

        super().__init__(url)
        drivers = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
        self._engine = create_engine(_sqlalchemy_url(url, drivers[dialect_of(url)]))

    def handle(self, session_id: str) -> Any:
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        return _LangChainHandle(SQLChatMessageHistory(session_id, connection=self._engine))

    def close(self) -> None:
        self._engine.dispose()


class LangChainPostgres(Store):
    name = "LangChain Postgres"
    needs = ("langchain_postgres",)
    limits = False

    def __init__(self, url: str) -> None:
        import psycopg

        super().__init__(url)
        self._connection = psycopg.connect(url)
        self._made = False

    def handle(self, session_id: str) -> Any:
        from langchain_postgres import PostgresChatMessageHistory

        if not self._made:
            PostgresChatMessageHistory.create_tables(self._connection, "chat_history")
            self._made = True
        name = str(uuid.uuid5(uuid.NAMESPACE_DNS, session_id))
        return _LangChainHandle(PostgresChatMessageHistory("chat_history", name, sync_connection=self._connection))

    def close(self) -> None:
        self._connection.close()


class _LangChainHandle:
    def __init__(self, history: Any) -> None:
        self._history = history

    def get(self, limit: int | None = None) -> list[Any]:
        return [message.additional_kwargs["item"] for message in self._history.messages]

    def add(self, items: list[Item]) -> None:
        from langchain_core.messages import HumanMessage

        self._history.add_messages([HumanMessage("", additional_kwargs={"item": item}) for item in items])

    def pop(self) -> Any:
        raise NotImplementedError

    def clear(self) -> None:
        self._history.clear()
