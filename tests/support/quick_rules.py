"""The alert rules with shorter times, so that a test can wait for them: ``python -m tests.support.quick_rules FACTOR``.

Every ``for``, window and offset is divided by the factor, and so are the seconds that NoProgress and StoreErrors
compare ages with. No other number is changed: a count within a window is as large as before, so an
alert of these rules is never easier to trigger than the real one.
"""

import re
import sys
from typing import Any

import yaml

from tests.support.prometheus import RULES

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
AGES = {"NoProgress": "900", "StoreErrors": "600"}  # seconds in expressions


def quick(factor: float) -> dict[str, Any]:
    """The content of the file of rules, with all times divided by ``factor``."""
    value: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for group in value["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _shorter(rule["for"], factor)
            text = re.sub(r"(?<=\[)\d+[smhd](?=\])", lambda m: _shorter(m[0], factor), rule["expr"])
            text = re.sub(r"(?<=offset )\d+[smhd]", lambda m: _shorter(m[0], factor), text)
            if age := AGES.get(rule.get("alert", "")):
                text = re.sub(rf"\b{age}\b", lambda m: f"{float(m[0]) / factor:g}", text)
            rule["expr"] = text
    return value


def _shorter(duration: str, factor: float) -> str:
    return f"{round(1000 * int(duration[:-1]) * UNITS[duration[-1]] / factor)}ms"


if __name__ == "__main__":
    yaml.safe_dump(quick(float(sys.argv[1])), sys.stdout, sort_keys=False)
