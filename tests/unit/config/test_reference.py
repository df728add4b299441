"""docs/settings.md is made from the declarations, and is up to date."""

from __future__ import annotations

from ekiden.config.reference import reference
from ekiden.config.snapshot import Parameters
from support.requirements import ROOT


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page == reference(), "run: python -m ekiden.config.reference docs/settings.md"


def test_every_parameter_is_documented() -> None:
    page = reference()
    for name, parameter in Parameters.declared().items():
        assert f"\n### {name}\n" in page
        assert parameter.doc.strip().endswith((".", ":", ".)")), name
