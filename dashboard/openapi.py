"""The OpenAPI document, from which the front ends' types are generated."""

import json
from pathlib import Path

from dashboard.app import create_app
from kernel.settings import Settings

PATH = Path(__file__).parent / "openapi.json"


def describe_api() -> str:
    """The document as text; the same for every installation."""
    return json.dumps(create_app(Settings()).openapi(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def write_openapi(path: Path = PATH) -> bool:
    """Write the document; False when the file said the same already."""
    text = describe_api()
    if path.exists() and path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True
