"""Let LangChain keep a chat's messages in a session: its BaseChatMessageHistory over ours.

Importing this module imports langchain_core; nothing else of the package does.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict

from ._awaiting import finished, read
from .errors import InvalidItemError, kind_of
from .session import Session


class SessionChatMessageHistory(BaseChatMessageHistory):
    """The messages of one conversation, stored in LangChain's own form, so that they come back equal.

    A batch is written whole or not at all, in one round trip. The asynchronous variants do
    the same in a thread. As with AgentsSession, a write that has begun is finished before a
    cancellation or a time limit goes on, and is stored then unless it fails: look before you try it again.
    Use a conversation that only LangChain writes to.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        if not isinstance(session, Session):
            raise TypeError(
                f"session is a {kind_of(session)}, not a sessions.Session; "
                "write SessionChatMessageHistory(backend.session(session_id))"
            )
        self.session = session

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # LangChain's own histories have a property too
        """All messages, or the newest default_limit of them, oldest first.

        Raises ValueError where the conversation holds anything else.
        """
        items = self.session.get_items(whole_turns=False)  # of which LangChain's form says nothing
        try:
            return messages_from_dict(items)
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"session {self.session.session_id!r} holds items that are no messages of LangChain; "
                "use a conversation that only LangChain writes to"
            ) from None

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append the messages in order, all or none of them.

        Raises InvalidItemError before anything is written for a message that could not be read back.
        """
        items = messages_to_dict(messages)
        try:
            messages_from_dict(items)
        except (TypeError, ValueError):
            raise InvalidItemError(
                "a message is of a class of yours, which LangChain cannot read back; use one of LangChain's"
            ) from None
        self.session.add_items(items)

    def clear(self) -> None:
        """Remove all messages and the conversation itself."""
        self.session.clear_session()

    # The base class's own leave to itself what a time limit has given up, which is then written later.

    async def aget_messages(self) -> list[BaseMessage]:
        """Return what messages has."""
        return await read(self.session._history.store, lambda: self.messages)  # noqa: SLF001

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append the messages as add_messages() does."""
        await finished(self.add_messages, messages)

    async def aclear(self) -> None:
        """Remove all messages and the conversation itself."""
        await finished(self.clear)
