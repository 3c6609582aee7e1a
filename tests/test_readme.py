"""The documentation runs, and what it points to exists."""

import pydoc
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for folder in (".", "docs", "benchmarks")
    for page in sorted((ROOT / folder).glob("*.md"))
]
FENCE = re.compile(r"^```(.*)$", re.MULTILINE)
LANGUAGES = {"python", "bash", "text", "bibtex"}


def blocks(text):
    """Yield (language, line number, content) of each fenced block."""
    marks = list(FENCE.finditer(text))
    assert len(marks) % 2 == 0, "a fence is not closed"
    for opening, closing in zip(marks[::2], marks[1::2], strict=True):
        assert closing[1] == "", f"a fence is not closed before {closing[0]!r}"
        line = text.count("\n", 0, opening.end()) + 1
        yield opening[1], line, text[opening.end() + 1 : closing.start()]


def prose(path):
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)


def page(path):
    return pytest.param(path, id=path.name)


pages = pytest.mark.parametrize("path", [page(path) for path in PAGES])


@pages
def test_python_blocks_run_in_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": path.stem}
    for language, line, content in blocks(path.read_text("utf-8")):
        if language == "python":
            code = "\n" * line + content  # so that tracebacks name the line
            exec(compile(code, path, "exec"), namespace)


@pages
def test_every_block_says_its_language(path):
    found = {language for language, _, _ in blocks(path.read_text("utf-8"))}
    assert found <= LANGUAGES  # "py" or nothing at all would silently not run


def test_the_readme_shows_code():
    text = (ROOT / "README.md").read_text("utf-8")
    (example,) = (b for language, _, b in blocks(text) if language == "python")
    assert "FlowFMTransformer(" in example
    assert "FlowFMSampler(" in example
    assert len([line for line in example.splitlines() if line.strip()]) <= 15


@pages
def test_links_between_pages_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not target.startswith(("http://", "https://", "#")):
            file, _, anchor = target.partition("#")
            linked = path.parent / file
            assert linked.exists(), f"{path.name} links to {target}"
            assert not anchor or anchor in anchors(linked), f"{path.name}: {target}"


def anchors(path):
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {name.replace(" ", "-") for name in plain}


@pages
def test_files_named_in_the_text_exist(path):
    for name in re.findall(r"`([\w./-]+(?:\.py|/))`", prose(path)):
        if name not in ("out/", ".venv/"):
            places = ROOT / name, path.parent / name
            assert any(p.exists() for p in places), f"{path.name} names {name}"


@pages
def test_objects_named_in_the_text_exist(path):
    for name in re.findall(r"`(skflowfm(?:\.\w+)+)(?:\(\))?`", prose(path)):
        assert pydoc.locate(name) is not None, f"{path.name} names {name}"
