"""The pages in Chromium: they run nothing of what they show, fit every screen, and can be used without a mouse."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sessions
from sessions._command.main import main
from support.conversations import BREAK_OUT, CONVERSATION, HOSTILE, HOSTILE_IDS
from support.rivals import set_updated_at
from support.samples import item, items, plant

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

SCREENS: dict[str, dict[str, Any]] = {
    "wide, light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "narrow, dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    "narrow, light": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "wide, dark, no script": {
        "viewport": {"width": 1280, "height": 900},
        "color_scheme": "dark",
        "java_script_enabled": False,
    },
}
QUESTIONS = {"q1": "Wo ist das Café in der STRASSE?", "q2": "ﬁnd the Ελλάς file", "q3": "A naïve résumé, İstanbul"}
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of a usual conversation, of a hostile one and of ids that are hostile."""
    made = tmp_path_factory.mktemp("browser")
    url = f"sqlite:///{made}/chat.db"
    with sessions.connect(url) as backend:
        backend.session("usual").add_items(CONVERSATION)
        backend.session("hostile").add_items(HOSTILE)
        plant(url, "hostile", "{not JSON" + BREAK_OUT)
        for name, question in QUESTIONS.items():
            backend.session(name).add_items(items(question))
        for name in HOSTILE_IDS:
            backend.session(name).add_items([item(f"{name} {BREAK_OUT}")])
        set_updated_at(backend, "usual", time.time() + 60)
        assert main(["export", "--html", str(made / "pages"), "--quiet", "--url", url]) == 0
    return made / "pages"


@pytest.fixture
def open_page(browser: Browser, folder: Path) -> Iterator[Open]:
    """A function that opens a page; at the end nothing was asked of anybody, and nothing was complained about."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    requests: list[str] = []

    def open_page(name: str, *, fragment: str = "", **screen: Any) -> Page:
        context = browser.new_context(**screen)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        path = folder / "index.html" if name == "index" else next(folder.glob(f"{name}-*.html"))
        page.goto(path.as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [
        url for url in requests if not re.match(rf"data:image/|{re.escape(folder.as_uri())}/[\w-]+\.html", url)
    ] == []


# --- nothing runs, and everything fits


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", ["usual", "hostile", "index"])
def test_a_page_fits_and_runs_nothing(open_page: Open, name: str, screen: str) -> None:
    page = open_page(name, **SCREENS[screen])
    assert page.locator("h1").is_visible()
    fold = page.locator("main summary, header summary")
    for number in range(min(fold.count(), 3)):
        fold.nth(number).click()
    # evaluate() works where the page itself may run nothing.
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == SCREENS[screen]["viewport"]["width"]
    assert page.evaluate("window.pwned") is None
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 21, 23)" if "dark" in screen else "rgb(252, 252, 250)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["usual", "hostile", "index"])
def test_each_link_leads_to_the_web_or_to_a_page(open_page: Open, name: str) -> None:
    page = open_page(name)
    protocols = page.evaluate("[...document.querySelectorAll('a, area, [href]')].map((link) => link.protocol)")
    assert set(filter(None, protocols)) <= {"http:", "https:", "mailto:", "file:"}
    assert page.evaluate(
        "document.querySelectorAll('script:not([type]), iframe, object, embed, form, svg').length"
    ) == (name == "index")
    for event in ("click", "mouseover", "focus", "error", "load"):
        page.evaluate(f"document.querySelectorAll('*').forEach((one) => one.dispatchEvent(new Event('{event}')))")
    assert page.evaluate("window.pwned") is None


def test_images_are_shown(open_page: Open) -> None:
    page = open_page("usual")
    assert page.evaluate("[...document.images].map((image) => [image.complete, image.naturalWidth])") == [[True, 320]]


def test_the_policy_refuses_what_should_get_in_all_the_same(browser: Browser, folder: Path, tmp_path: Path) -> None:
    markup = next(folder.glob("usual-*.html")).read_text(encoding="utf-8")
    file = tmp_path / "broken.html"
    attacks = (
        "<script>window.pwned=1</script><img src=x onerror=window.pwned=1><style>h1{display:none}</style>"
        f"<iframe src='{(folder / 'index.html').as_uri()}'></iframe><img src='https://example.org/x.png'>"
    )
    file.write_text(markup.replace("</main>", attacks + "</main>"), encoding="utf-8")
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate("window.pwned") is None
    assert page.locator("h1").is_visible()
    assert len([text for text in refused if "Content Security Policy" in text]) >= 5
    page.close()


# --- on paper


def test_paper_has_every_fold_open_and_no_controls(open_page: Open) -> None:
    page = open_page("usual", color_scheme="dark")
    shown = "(element) => element.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true})"
    closed = page.locator("details:not([open]) .io pre, details:not([open]) .body").first
    assert not closed.evaluate(shown)
    page.emulate_media(media="print")
    for body in page.locator("main details .io, main details .body").all():
        assert body.evaluate(shown)
        assert body.evaluate("(element) => element.getBoundingClientRect().height") > 10
    assert page.evaluate(
        "[...document.querySelectorAll('pre')].every((box) => box.scrollHeight <= box.clientHeight + 1)"
    )
    assert not page.locator(".show").is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    after = page.locator(".md a").first.evaluate("(link) => getComputedStyle(link, '::after').content")
    assert after.startswith('" <" attr(href)') or "https://www.postgresql.org/docs/" in after
    assert page.pdf().count(b"/Type /Page\n") > 2  # the folds of this page take more than one


# --- by keyboard


def test_a_fold_opens_by_the_keyboard(open_page: Open) -> None:
    page = open_page("usual")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the conversation"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.evaluate("document.activeElement.closest('main') !== null")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    assert page.get_by_text("Look before you act").last.is_visible()


def test_what_scrolls_is_a_stop_and_what_has_the_focus_shows_it(open_page: Open) -> None:
    page = open_page("usual")
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    scrolls = "(box) => box.scrollHeight > box.clientHeight + 1"
    assert page.evaluate(f"[...document.querySelectorAll('pre')].filter({scrolls}).map((box) => box.tabIndex)") == [0]
    assert page.locator("pre[tabindex]").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_link_to_an_item_opens_its_fold(open_page: Open) -> None:
    for number in (5, 7):  # a call, and its output inside the same fold
        page = open_page("usual", fragment=f"#r{number}")
        assert page.locator(f"details:has(#r{number})").evaluate("(details) => details.open")
        assert page.locator(f"#r{number}").is_visible()
        assert page.evaluate(f"document.getElementById('r{number}').getBoundingClientRect().top < innerHeight")


def test_kinds_of_items_can_be_hidden(open_page: Open) -> None:
    page = open_page("usual", java_script_enabled=False)
    for label, hidden in (("tool calls", ".tools"), ("reasoning", ".reasoning"), ("other items", ".handoff")):
        assert page.locator(hidden).first.is_visible()
        page.get_by_label(label).uncheck()
        assert not page.locator(hidden).first.is_visible()
    assert page.locator(".user").first.is_visible()


# --- the search


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("cafe", ["q1"]),
        ("CAFÉ strasse", ["q1"]),
        ("straße wo", ["q1"]),
        ("find", ["q2"]),
        ("ελλασ", ["q2"]),
        ("resume istanbul NAIVE", ["q3"]),
        ("cafe istanbul", []),
        ("vacuum checkout", ["usual"]),
        ("<script>window.pwned=1</script>", None),
        ("usual", ["usual"]),
        ("(", None),
    ],
)
def test_the_search_finds_all_words_whatever_accents_and_case(
    open_page: Open, wanted: str, found: list[str] | None
) -> None:
    page = open_page("index")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type(wanted)
    shown = page.locator("#sessions > li:visible b").all_text_contents()
    assert found is None or shown == found
    count = len(HOSTILE_IDS) + 5
    assert page.locator("#count").text_content() == f"{len(shown)} of {count}"
    assert page.locator("#none").is_visible() == (not shown)
    assert page.evaluate("window.pwned") is None
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    assert page.locator("#sessions > li:visible").count() == count


def test_a_hit_is_marked_where_it_stands(open_page: Open) -> None:
    page = open_page("index", fragment="#q=STRASSE%20cafe")
    assert page.locator("#q").input_value() == "STRASSE cafe"
    assert page.locator("mark").all_text_contents() == ["Café", "STRASSE"]
    page.locator("#q").fill("find file")
    assert page.locator("mark").all_text_contents() == ["ﬁnd", "file"]
    assert page.evaluate("location.hash") == "#q=find%20file"


def test_without_script_the_list_stays_and_the_box_is_hidden(open_page: Open) -> None:
    page = open_page("index", java_script_enabled=False)
    assert not page.locator("#find").is_visible()
    assert page.locator("#sessions > li").first.is_visible()


def test_a_page_is_reached_from_the_index_and_back(open_page: Open) -> None:
    page = open_page("index")
    page.get_by_role("link", name="usual").click()
    assert page.locator("h1").text_content() == "usual"
    page.get_by_role("link", name="All conversations").click()
    assert page.locator("h1").text_content() == "Conversations"
