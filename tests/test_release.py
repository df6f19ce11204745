"""What is published is the same bytes wherever it is built, whole, and shown by an index as it is meant."""

from __future__ import annotations

import email
import hashlib
import os
import re
import shutil
import sysconfig
import tarfile
import tomllib
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sessions
from support.building import ROOT, build, run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist does not know what git has"),
]

URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
REPOSITORY = URLS["Repository"]
PICTURES = {".png", ".svg"}


def _in_git() -> set[str]:
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


# --- what is built


def _copy(folder: Path, mode: int, seconds: int) -> Path:
    """A checkout with other modes and dates."""
    for name in sorted(_in_git(), reverse=seconds % 2 == 1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
        (folder / name).chmod(mode)
        os.utime(folder / name, (seconds, seconds))
    return folder


def _make_wheel(checkout: Path, umask: int = -1, **environment: str) -> Path:
    """`make wheel`, with this environment's `build` and nothing installed; where the files are."""
    scripts = checkout / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "pyproject-build").symlink_to(Path(sysconfig.get_path("scripts")) / "pyproject-build")
    (scripts / "pip").symlink_to(shutil.which("true") or "/bin/true")
    (checkout / ".venv" / "dependencies").touch()
    run("make", "wheel", "VENV=.venv", cwd=checkout, umask=umask, **environment)
    return checkout / "dist"


def _digests(*files: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy(tmp_path_factory.mktemp("checkout"), 0o644, 1_700_000_000)


@pytest.fixture(scope="module")
def dist(checkout: Path) -> Path:
    """What `make wheel` builds there."""
    return _make_wheel(checkout)


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    [file] = dist.glob("*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [file] = dist.glob("*.whl")
    return file


def test_make_wheel_gives_the_same_bytes_wherever_and_whenever_it_runs(dist: Path, tmp_path: Path) -> None:
    elsewhere = _copy(tmp_path / "a folder elsewhere", 0o600, 1_600_000_001)
    for cache in ("sessions/__pycache__/errors.cpython-311.pyc", "tests/.hypothesis/x", "tests/.pytest_cache/x"):
        (elsewhere / cache).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / cache).touch()
    again = _make_wheel(elsewhere, 0o077, SOURCE_DATE_EPOCH="1500000000", TZ="Asia/Tokyo", LC_ALL="C")
    assert len(_digests(*dist.iterdir())) == 2
    assert _digests(*again.iterdir()) == _digests(*dist.iterdir())


def test_the_sdist_gives_the_same_wheel_as_the_checkout(
    checkout: Path, sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.glob("agent_sql_sessions-*")
    unpacked = build(tmp_path / "of the sdist", "--wheel", source)
    straight = build(tmp_path / "of the checkout", "--wheel", checkout)
    assert _digests(wheel) == _digests(unpacked) == _digests(straight)


def test_the_sdist_holds_what_git_has_but_the_pictures(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if not member.isdir()}
    hidden = re.compile(r"\.(?!gitignore$|github/\w+\.md$)")  # of this repository, and of no use without it
    expected = {name for name in _in_git() if not hidden.match(name) and Path(name).suffix not in PICTURES}
    assert names == expected | {"PKG-INFO"}


def test_the_metadata_is_of_the_oldest_version_that_says_it_all(sdist: Path, wheel: Path) -> None:
    metadata = _metadata(wheel)
    with tarfile.open(sdist) as archive:
        [member] = [member for member in archive if member.name.endswith("/PKG-INFO")]
        file = archive.extractfile(member)
        assert file
        assert file.read().decode() == metadata
    message = email.message_from_string(metadata)
    assert message["Metadata-Version"] == "2.4"
    assert message["License-Expression"] == "MIT"


def test_every_url_of_the_project_begins_with_the_repositorys() -> None:
    assert [url for url in URLS.values() if not url.startswith(REPOSITORY)] == []


# --- what an index shows


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


def _rendered(markdown: str) -> str:
    """As PyPI renders it."""
    from readme_renderer.markdown import render

    html = render(markdown)
    assert html
    return html


class _Links(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.add(value or "")
            elif name == "id":
                self.ids.add(value or "")


@pytest.fixture(scope="module")
def readme(wheel: Path) -> str:
    """README in the wheel, as an index shows it."""
    return _rendered(_metadata(wheel).partition("\n\n")[2])


def _resolves(link: str, page: _Links) -> bool:
    if link.startswith("#"):
        return link[1:] in page.ids
    in_repository = re.fullmatch(re.escape(REPOSITORY) + r"/(?:blob|raw)/main/([^#]+)(?:#(.+))?", link)
    if not in_repository:
        return link in URLS.values() or (link.startswith("https://") and not link.startswith(REPOSITORY))
    name, anchor = in_repository.groups()
    if name not in _in_git():
        return False
    return not anchor or f"user-content-{anchor}" in _Links(_rendered((ROOT / name).read_text(encoding="utf-8"))).ids


def test_every_link_of_the_published_readme_leads_somewhere(readme: str) -> None:
    page = _Links(readme)
    assert len(page.links) > 20
    assert {link for link in page.links if not _resolves(link, page)} == set()


# What PyPI's style says of a description: https://github.com/pypi/warehouse, _project-description.scss.
_COLUMN = """
<style>body { margin: 0; font: 16px/1.5 sans-serif } pre { overflow-x: auto } img { max-width: 100% }
table { width: 100%; border-collapse: collapse } th, td { padding: 10px 7px; border-right: 1px solid }</style>
"""


def test_the_published_readme_fits_the_column_of_an_index(readme: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 830, "height": 800})
    page.route("**", lambda route: route.abort())
    page.set_content(_COLUMN + readme)
    wide = page.evaluate(
        "[...document.body.children].filter(e => e.tagName != 'PRE' && e.scrollWidth > 830).map(e => e.textContent)"
    )
    page.close()
    assert wide == []


@pytest.mark.parametrize(
    ("page", "title"), [("README.md", "## Changes"), (".github/CHANGELOG.md", "# Changes")], ids=["readme", "changelog"]
)
def test_the_changes_begin_with_this_version_and_its_date(page: str, title: str) -> None:
    changes = (ROOT / page).read_text(encoding="utf-8").partition(title)[2]
    assert re.findall(r"^##+ (.+) \(\d{4}-\d\d-\d\d\)$", changes, re.MULTILINE)[:1] == [sessions.__version__]


# --- what publishes it

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_a_workflow_takes_actions_by_commit_and_knows_no_secret(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    actions = [action for action in re.findall(r"uses: (.+)", text) if not action.startswith("./")]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)] == []
    assert not re.search(r"secrets\b|password|token(?!: write)", text.replace("id-token", ""))


def test_what_is_published_was_built_once_and_tested_first() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = dict(re.findall(r"^  (\w+):\n((?:(?:    .*)?\n)+)", text.partition("\njobs:\n")[2], re.MULTILINE))
    assert [name for name, job in jobs.items() if "make wheel" in job] == ["build"]
    assert [name for name, job in jobs.items() if "id-token: write" in job] == ["publish"]
    assert "needs: [test, build]" in jobs["publish"]
    assert "environment:" in jobs["publish"]
    assert "run:" not in jobs["publish"]
    assert "checkout" not in jobs["publish"]
