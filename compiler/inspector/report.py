"""The report: one HTML file with the recording, the viewer and its style inside, which asks nothing of a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sterna.inspector.payload import Code, encode
from sterna.inspector.recording import Recording

NOTEBOOK_HEIGHT = 720


def report_html(
    recording: Recording, title: str, codes: Sequence[Code] = (), *, version: str | None = None
) -> str:
    """The whole page. With a `version`, it asks the server that it came from for a newer one, and reloads."""
    bundle = files("sterna.inspector") / "bundle"
    environment = Environment(
        loader=PackageLoader("sterna.inspector", ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        version=version,
        recording=encode(recording, title, codes),
        style=(bundle / "viewer.css").read_text(encoding="utf-8"),
        # "</script" can stand in a string of the bundle, and would end the element.
        script=(bundle / "viewer.js").read_text(encoding="utf-8").replace("</script", "<\\/script"),
    )


def repr_html(
    recording: Recording, title: str = "module", codes: Sequence[Code] = (), *, height: int = NOTEBOOK_HEIGHT
) -> str:
    """The report for a notebook's output cell: a frame of its own, so that neither's style reaches the other."""
    page = escape(report_html(recording, title, codes), quote=True)
    return (
        f'<iframe srcdoc="{page}" title="Sterna inspector: {escape(title)}" sandbox="allow-scripts" '
        f'style="width:100%;height:{height}px;border:1px solid #8884;border-radius:8px"></iframe>'
    )
