"""Conversations as pages: what is in them, what is never in them, and how they are written."""

import base64
import hashlib
import json
import re
import stat
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions._command import parsing
from sessions._command.main import main
from support.conversations import (
    ANSWER,
    BREAK_OUT,
    CONVERSATION,
    HOSTILE,
    HOSTILE_IDS,
    LINKS,
    METRICS,
    UNSEEN,
    call,
    data_url,
    output,
    png,
    said,
)
from support.markup import Page
from support.rivals import set_updated_at
from support.samples import item, items, plant

Items = Sequence[dict[str, Any]]
# The first 40 bits of their SHA-256 are the same, and no character of theirs is in the name of a file.
ALIKE = ("日古浜本日名", "日屋東本客語")
ELEMENTS = re.compile(
    "html|head|meta|link|title|style|body|header|main|footer|article|section|h[1-6]|p|a|span|b|ol|ul|li|dl|div|dt|dd|"
    "fieldset|legend|label|input|details|summary|pre|code|figure|img|figcaption|time|table|thead|tbody|tr|th|td|"
    "strong|em|s|blockquote|hr|br"
)
ATTRIBUTES = re.compile(
    "lang|charset|http-equiv|content|name|rel|href|class|id|aria-label|tabindex|role|type|checked|dir|open|src|width|"
    "height|alt|datetime|title|start"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pages"


@pytest.fixture
def export(sqlite_url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Page]]:
    """A function that writes a conversation of these items, and returns its page."""
    with sessions.connect(sqlite_url) as backend:

        def export(items: Items, *options: str, rows: Sequence[str] = ()) -> Page:
            backend.session("chat_1").replace_items(items)
            if rows:
                plant(sqlite_url, "chat_1", *rows)
            assert main(["export", "chat_1", "--html", str(folder), *options, "--url", sqlite_url]) == 0
            assert capsys.readouterr().out == ""
            [file] = folder.glob("chat_1-*.html")
            return Page(file.read_text(encoding="utf-8"))

        yield export


# --- what is on a page


def test_every_database_has_pages(sql_url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sessions.connect(sql_url) as backend:
        for name in ("old", "new", "<b>"):
            backend.session(name).add_items(items(f"Hello from {name}"))
        set_updated_at(backend, "old", 1_600_000_000)
    assert main(["export", "--html", str(folder), "--url", sql_url]) == 0
    assert capsys.readouterr().err.startswith("wrote 3 sessions, 3 items in ")
    index = Page((folder / "index.html").read_text(encoding="utf-8"))
    names = [href for href in index.values("href") if href.endswith(".html")]
    assert {*names, "index.html"} == {path.name for path in folder.iterdir()}
    assert names[-1].startswith("old-")
    assert all("Hello from" in Page((folder / name).read_text(encoding="utf-8")).text for name in names)
    assert "secret" not in index.markup  # the servers' password


def test_what_was_said_is_on_the_page(export: Callable[..., Page]) -> None:
    page = export(CONVERSATION)
    assert "Checkout was slow last night, the red bars in the chart. Was that the deploy?" in page.text
    assert METRICS in page.text
    assert "ALTER TABLE orders" in page.text
    assert "5, 1 failed" not in page.text  # a handoff is no call
    assert "4, 1 failed" in page.text
    assert "2 calls in parallel" in page.text
    assert "refused" in page.texts
    assert "unknown type, shown as stored" in page.texts
    assert "→ Database agent" in page.texts
    assert f'src="{data_url(png())}"' in page.markup
    assert "PNG, 320 × 132, 622 B" in page.texts  # noqa: RUF001


def test_every_record_can_be_linked_to_and_ids_are_unique(export: Callable[..., Page]) -> None:
    for conversation in (CONVERSATION, HOSTILE):
        page = export(conversation, rows=["{not JSON"])
        ids = page.values("id")
        numbers = {int(match[1]) for name in ids if (match := re.fullmatch(r"r(\d+)(?:-\d+)?", name))}
        assert len(ids) == len(set(ids))
        assert len(numbers) == len(conversation) + 1
        assert {href[1:] for href in page.values("href") if href.startswith("#")} <= set(ids)


def test_what_is_long_is_folded_and_what_failed_is_open(export: Callable[..., Page]) -> None:
    def is_open(*items: dict[str, Any]) -> bool:
        [details] = [attributes for tag, attributes in export(items).elements if tag == "details"]
        return "open" in details

    assert is_open(call("a", "f"), output("a", "x" * 600))
    assert not is_open(call("a", "f"), output("a", "x" * 601))
    assert is_open(call("a", "f"), output("a", "x" * 601, status="failed"))
    assert is_open({"type": "odd", "x": "x" * 1400})
    assert not is_open({"type": "odd", "x": "x" * 1500})
    assert not is_open({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]})
    assert not is_open({"role": "system", "content": "Be kind"})


def test_the_middle_of_a_very_long_text_is_left_out_and_said_so(export: Callable[..., Page]) -> None:
    text = f"begin{'-' * 300_000}end"
    items = [call("a", "f"), output("a", text), said(text), {"role": "user", "content": text}]
    page = export(items)
    assert page.text.count("… 44,008 characters left out: agent-sessions show --all --full chat_1") == 3
    assert len(page.text) < 3 * 256_000 + 3000
    assert (page.text.count("begin-"), page.text.count("-end")) == (3, 3)
    assert text in export(items, "--full").text


def test_encrypted_content_is_on_no_page(export: Callable[..., Page]) -> None:
    page = export([*HOSTILE, *CONVERSATION])
    assert "secret" not in page.markup
    assert "[encrypted]" in page.text


def test_times_have_their_date_where_it_is_another_one(export: Callable[..., Page], sqlite_url: str) -> None:
    from support.servers import execute_sql

    export(items("a", "b", "c"))
    for number, time in ((1, "2026-03-14 23:59:00"), (2, "2026-03-15 00:01:00"), (3, "2026-03-15 00:02:00")):
        execute_sql(sqlite_url, "UPDATE agent_messages SET created_at = %s WHERE id = %s", (time, number))
    page = export_again(sqlite_url, export)
    assert "2026-03-14 23:59 – 2026-03-15 00:02 UTC" in page.texts  # noqa: RUF001
    assert [text for text in page.texts if re.fullmatch(r"[-\d ]*\d\d:\d\d:\d\d", text)] == [
        "23:59:00",
        "2026-03-15 00:01:00",
        "00:02:00",
    ]


def export_again(url: str, export: Callable[..., Page]) -> Page:
    folder = Path(url.removeprefix("sqlite:///")).parent / "pages"
    assert main(["export", "--html", str(folder), "--url", url]) == 0
    [file] = folder.glob("chat_1-*.html")
    return Page(file.read_text(encoding="utf-8"))


# --- what is never on a page


def test_no_item_becomes_markup(export: Callable[..., Page]) -> None:
    page = export(HOSTILE, rows=["{not JSON" + BREAK_OUT])
    assert [tag for tag in page.tags if not ELEMENTS.fullmatch(tag)] == []
    assert [name for _, given in page.elements for name in given if not ATTRIBUTES.fullmatch(name)] == []
    assert page.comments == []
    # Everything that is out to be more than text is there, as text.
    assert page.text.count(BREAK_OUT) > 10


def test_images_are_those_of_the_items_and_none_is_a_document(export: Callable[..., Page]) -> None:
    page = export(HOSTILE)
    sources = page.values("src")
    assert len(sources) == 3
    assert all(re.fullmatch(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*", source) for source in sources)
    assert "[image: https://evil.example/track.png]" in page.texts
    assert "[image: beacon https://evil.example/pixel.png]" in page.texts


def test_links_lead_to_the_web_and_say_where(export: Callable[..., Page]) -> None:
    pytest.importorskip("markdown_it")
    page = export([said(LINKS)])
    outside = [attributes for tag, attributes in page.elements if tag == "a" and attributes["href"][:1] != "#"]
    assert [attributes["href"] for attributes in outside] == [
        "index.html",
        "https://example.org/a?b=1&c=%22",
        "https://evil.example/login",
        "https://bank.example@evil.example/",
        "mailto:a@example.org",
    ]
    assert {attributes["rel"] for attributes in outside[1:]} == {"noopener noreferrer nofollow"}
    assert [text for text in page.texts if re.fullmatch(r"\(\S+\)", text)] == [
        "(example.org)",
        "(evil.example)",
        "(evil.example)",
        "(a@example.org)",
    ]


def test_what_turns_or_hides_text_is_written_out(export: Callable[..., Page]) -> None:
    page = export([{"role": role, "content": UNSEEN} for role in ("user", "assistant", UNSEEN)] + [said("&#x202e;")])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\U000e0041]", page.text)
    assert r"invoice\u202egpj.exe\u202c" in page.text


def test_markdown_that_would_hide_something_stays_as_it_is_written(export: Callable[..., Page]) -> None:
    for text in ("| a |\n|---|\n| 1 | hidden |", "> " * 60 + "hidden", "[a]: https://example.org 'hidden'"):
        assert text in export([said(text)]).text


def test_a_policy_stands_before_everything_and_names_what_is_there(export: Callable[..., Page], folder: Path) -> None:
    for page in (export(CONVERSATION), Page((folder / "index.html").read_text(encoding="utf-8"))):
        charset, policy = [attributes for tag, attributes in page.elements if tag == "meta"][:2]
        assert charset == {"charset": "utf-8"}
        assert page.elements[2:4] == [("meta", charset), ("meta", policy)]
        hashes = {
            tag: hashlib.sha256(text.encode()).digest()
            for tag, text in re.findall(r"<(style|script)>(.*?)</\1>", page.markup, re.DOTALL)
        }
        named = {tag: f"'sha256-{base64.b64encode(number).decode()}'" for tag, number in hashes.items()}
        script = named.get("script", "'none'")
        assert policy["content"] == (
            f"default-src 'none'; img-src data:; style-src {named['style']}; script-src {script}; "
            "base-uri 'none'; form-action 'none'"
        )
        assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|eval\(", page.markup)


def test_the_search_data_end_no_script(sqlite_url: str, folder: Path) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session(BREAK_OUT).add_items([item(BREAK_OUT), said(f"Good day\n{BREAK_OUT}")])
        assert main(["export", "--html", str(folder), "--url", sqlite_url]) == 0
    index = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in index.elements if not ELEMENTS.fullmatch(tag)] == ["script", "script"]
    [data] = re.findall(r'<script type="application/json" id="texts">(.*?)</script>', index.markup, re.DOTALL)
    assert json.loads(data) == [[BREAK_OUT, f"{BREAK_OUT}\nGood day {BREAK_OUT}"]]


def test_no_item_passes_for_what_it_is_not(export: Callable[..., Page]) -> None:
    for kind in ("tool", "handoff", "corrupt", "user", "reasoning", "system"):
        odd = {"type": kind, "name": "x"} if kind != "reasoning" else {"role": kind, "content": "x"}
        page = export([odd])
        [entry] = [given["class"].split() for tag, given in page.elements if tag == "article"]
        assert entry[1] == ("unknown" if "type" in odd else "other")
        assert "Tool calls" not in page.texts


# --- without the package for Markdown


def test_without_markdown_an_answer_is_as_it_is_written(
    export: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = export([said(ANSWER)])
    assert "table" in rendered.tags
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    parsing._parser.cache_clear()
    try:
        page = export([said(ANSWER)])
    finally:
        parsing._parser.cache_clear()
    assert "table" not in page.tags
    assert ANSWER in page.text


# --- files


def test_no_id_leads_out_of_the_directory_or_to_another_page(sqlite_url: str, folder: Path) -> None:
    with sessions.connect(sqlite_url) as backend:
        for number, name in enumerate(HOSTILE_IDS):
            backend.session(name).add_items(items(f"question {number}"))
        assert main(["export", "--html", str(folder), "--url", sqlite_url]) == 0
    names = [path.name for path in folder.iterdir()]
    assert len({name.casefold() for name in names}) == len(HOSTILE_IDS) + 1
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,59}-[0-9a-f]{32}\.html|index\.html", name) for name in names)
    texts = [Page(path.read_text(encoding="utf-8")).text for path in folder.iterdir() if path.name != "index.html"]
    assert sorted(re.findall(r"question \d+", "".join(texts))) == sorted(
        f"question {number}" for number in range(len(HOSTILE_IDS))
    )


def test_two_ids_whose_hashes_begin_alike_have_a_page_each(sqlite_url: str, folder: Path) -> None:
    assert len({hashlib.sha256(name.encode()).hexdigest()[:10] for name in ALIKE}) == 1
    with sessions.connect(sqlite_url) as backend:
        for name in ALIKE:
            backend.session(name).add_items(items(f"question of {name}"))
        assert main(["export", "--html", str(folder), "--url", sqlite_url]) == 0
    texts = [Page(path.read_text(encoding="utf-8")).text for path in folder.iterdir() if path.name != "index.html"]
    assert len(texts) == 2
    assert all(any(f"question of {name}" in text for text in texts) for name in ALIKE)


def test_a_directory_that_is_made_is_private(export: Callable[..., Page], folder: Path) -> None:
    export(items("Hello"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_files_of_others_stay_and_pages_are_written_anew(export: Callable[..., Page], folder: Path) -> None:
    folder.mkdir(mode=0o755)
    (folder / "notes.txt").write_text("mine")
    export(items("Hello"))
    assert "Good day" in export(items("Good day")).text
    assert (folder / "notes.txt").read_text() == "mine"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert len(list(folder.iterdir())) == 3


def test_a_link_in_the_place_of_a_page_is_not_followed(
    export: Callable[..., Page], folder: Path, tmp_path: Path
) -> None:
    export(items("Hello"))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to(victim)
    export(items("Hello"))
    assert victim.read_text() == "mine"
    assert not (folder / "index.html").is_symlink()


def test_a_page_that_cannot_be_written_is_one_line_and_leaves_nothing(
    sqlite_url: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello"))
        (folder / "index.html").mkdir(parents=True)
        assert main(["export", "--html", str(folder), "--url", sqlite_url]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        assert {path.name.partition("-")[0] for path in folder.iterdir()} == {"chat_1", "index.html"}
        file = folder / "file"
        file.touch()
        assert main(["export", "--html", str(file), "--url", sqlite_url]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_an_id_that_is_not_there_makes_no_page(
    sqlite_url: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello"))
        assert main(["export", "chat_1", "chat_7", "--html", str(folder), "--url", sqlite_url]) == 1
    assert "no session 'chat_7'" in capsys.readouterr().err
    assert not folder.exists()


def test_full_is_for_pages(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello"))
        assert main(["export", "--full", "--url", sqlite_url]) == 2
    assert "--html" in capsys.readouterr().err


@pytest.mark.slow
def test_a_long_conversation_takes_little_memory(sqlite_url: str, folder: Path) -> None:
    with sessions.connect(sqlite_url) as backend:
        for _ in range(8):
            backend.session("chat_1").add_items([item("x" * 10_000)] * 500)
        tracemalloc.start()
        try:
            assert main(["export", "--html", str(folder), "--quiet", "--url", sqlite_url]) == 0
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sum(path.stat().st_size for path in folder.iterdir()) > 40_000_000
    assert peak < 20_000_000
