"""What a page of HTML shows."""

from __future__ import annotations

import json
import re
from typing import Any


def figures(page: str) -> list[list[dict[str, Any]]]:
    """Return the traces of each of plotly's figures."""
    decoder = json.JSONDecoder()
    calls = re.finditer(r"Plotly\.newPlot\(\s*\"[0-9a-f-]+\",\s*", page)
    return [decoder.raw_decode(page, call.end())[0] for call in calls]
