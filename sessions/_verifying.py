"""Look at every conversation by its seals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from ._rekeying import all_ids
from ._sealing import ForeignSealError, Verified
from ._stores.observing import observed
from ._stores.store import Store
from .errors import SealBrokenError, unkeyed_error


def verify(
    store: Store, session_ids: Iterable[str] | None, since: Mapping[str, str]
) -> Iterator[tuple[str, Verified | SealBrokenError]]:
    """Check that there is a key, and look at conversations as they are asked for."""
    if store.options.integrity_key is None:
        raise unkeyed_error()
    return _verify(store, session_ids, since)


def _verify(
    store: Store, session_ids: Iterable[str] | None, since: Mapping[str, str]
) -> Iterator[tuple[str, Verified | SealBrokenError]]:
    from ._seals import OTHER_KEY, broken_error

    # One that has an end and nothing else is listed nowhere; nor is one that was removed as a whole.
    wanted = chain(all_ids(store), since) if session_ids is None else session_ids
    seen: set[str] = set()
    for session_id in wanted:
        if session_id in seen:
            continue
        seen.add(session_id)
        try:
            yield session_id, observed(store, "verify").verify(session_id, since.get(session_id))
        except SealBrokenError as exc:
            yield session_id, exc
        except ForeignSealError:
            yield session_id, broken_error(session_id, None, OTHER_KEY)
