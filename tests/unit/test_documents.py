"""What the documents say of the source holds: the index of RFCs, and the files that docs/flow.md leads through."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from support.requirements import ROOT
from support.same_configuration import CONFIGURATIONS

_CITE = re.compile(r"RFC (\d{3,5})")
_INDEX = tomllib.loads((ROOT / "docs" / "rfc.toml").read_text("utf-8"))["rfc"]
_LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")
_DOCUMENTS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CHANGELOG.md"])


@cache
def cited_in(folder: str) -> frozenset[str]:
    return frozenset(
        number
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".dlg") and path.name != "test_documents.py"
        for number in _CITE.findall(path.read_text("utf-8"))
    )


def test_every_cited_rfc_is_in_the_index() -> None:
    assert cited_in("src") | cited_in("tests") <= set(_INDEX)


@pytest.mark.parametrize("number", [number for number, entry in _INDEX.items() if entry["support"] == "yes"])
def test_a_supported_rfc_is_cited_in_source_and_tests(number: str) -> None:
    assert number in cited_in("src")
    assert number in cited_in("tests")


def test_the_index_has_a_word_on_everything_that_is_not_whole() -> None:
    for number, entry in _INDEX.items():
        assert entry["support"] in ("yes", "partial", "no"), number
        assert entry["title"], number
        assert entry["support"] != "partial" or entry.get("note"), number


def test_every_rfc_that_a_page_cites_is_in_the_index() -> None:
    assert {number for path in _DOCUMENTS for number in _CITE.findall(path.read_text("utf-8"))} <= set(_INDEX)


def test_the_differences_name_every_configuration_that_is_compared() -> None:
    text = (ROOT / "docs" / "differences.md").read_text("utf-8")
    section = text.partition("\n## What the tests compare\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in CONFIGURATIONS.iterdir() if path.is_dir())


@pytest.mark.parametrize("readme", ["README.md", "README.ja.md"])
def test_the_readme_leads_to_every_page(readme: str) -> None:
    linked = set(_LINK.findall((ROOT / readme).read_text("utf-8")))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked


def test_the_path_of_a_message_names_files_that_stand() -> None:
    text = (ROOT / "docs" / "flow.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", text))
    assert len(named) > 20
    missing = sorted(name for name in named if not (ROOT / "src" / "ekiden" / name).is_file())
    assert not missing


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target
