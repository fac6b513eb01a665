"""Source text of the workflow rules."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULE = re.compile(r"^( *)(?:rule|checkpoint) (\w+):\n(.*?)(?=^(?:\1)?\S|\Z)", re.M | re.S)
RULES = {
    match[2]: (len(match[1]), match[3])
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for match in RULE.finditer(path.read_text())
}


def block(rule: str, directive: str) -> str:
    """Return the text of a directive of a rule; "" if the rule does not have it."""
    indent, body = RULES[rule]
    match = re.search(rf"^ {{{indent + 4}}}{directive}:(.*?)(?=^ {{{indent + 4}}}\S|\Z)", body, re.M | re.S)
    return match[1] if match else ""
