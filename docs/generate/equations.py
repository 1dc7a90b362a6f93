"""The index equations at the head of a kernel's file, as TeX.

A docstring writes ``out[n, o] = bias[o] + sum over c of weight[o, c] * x[n, c]``, often with words in between. Here
what stands in brackets behind a name becomes its index, sums and maxima get their signs, and words stay words.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

#: A literal block of reStructuredText: its text.
LITERAL = re.compile(r"::\n\n((?:    .*\n|\n)+)")
#: The parts of an equation: words (also with an apostrophe or a hyphen), numbers, signs.
TOKEN = re.compile(r"[A-Za-z]\w*(?:-[a-z]+|'(?!\w)|\.[a-z]\w+)?|\d+|\*\*|<=|>=|\.\.\.?|\s+|.")
#: A sum, or a maximum, over indices.
OVER = re.compile(r"\b(sum|max|min|op) over (?=[a-z]\b|\()(.+?) of ")
#: A quotient without its fraction.
FLOOR = re.compile(r"(\w+(?: \* \w+)*) // (\w+)")
SIGNS = {
    "*": r"\cdot ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "<=": r"\le ", ">=": r"\ge ", "%": r"\bmod ", "@": r"\,",
    "..": r"\ldots ", "...": r"\ldots ", "{": r"\{", "}": r"\}", "#": r"\#", "&": r"\&", "_": r"\_", ",": r",\;",
}  # fmt: skip
LARGE = {"sum": r"\sum", "max": r"\max", "min": r"\min", "op": r"\operatorname{op}"}
#: What may stand beside a word that is a name: everything else beside it makes it a word of a sentence.
BESIDE = frozenset("+-*/=<|^@%") | {"**", "<=", ">=", "..", "..."}
OPENING, CLOSING = frozenset("[({⌊"), frozenset("])}⌋")
#: An equation of its own, not a remark beside another; and the space in front of remarks.
DEFINES = re.compile(r"[A-Za-z]\w*(\[[^\]]*\])* = ")
QUAD = r"\quad "
#: Marks of what is found on the way: a sum's sign, in front of its name and its indices; words of a sentence.
LARGE_SIGN, INDICES_END, WORDS, WORDS_END = "\x01\x02\x03\x04"
PAIRS = {"]": "[", ")": "("}


def blocks(docstring: str) -> Iterator[tuple[int, int, str]]:
    """Where a docstring's literal blocks begin and end, from their two colons on, and their text."""
    for match in LITERAL.finditer(docstring + "\n"):
        yield match.start(), match.end(), textwrap.dedent(match[1]).strip("\n")


def parts(block: str) -> Iterator[tuple[bool, str]]:
    """The paragraphs of a block: True and TeX, or False and a sentence ("where ..."), which is text."""
    for paragraph in re.split(r"\n\s*\n", block):
        lines = paragraph.splitlines()
        if len(lines) > 1 and lines[0].startswith("where "):
            yield False, " ".join(line.strip() for line in lines)
        else:
            yield True, tex(lines)


def tex(lines: list[str]) -> str:
    """Lines of equations as TeX, a row for each and for each remark at a line's end."""
    rows = []
    for line in lines:
        continued = line.startswith(" ")
        line = line.strip()
        label = re.match(r"([a-z]+):\s+", line)
        first, *remarks = re.split(r" {3,}", line[label.end() :] if label else line)
        name = rf"\text{{{label[1]}:}}" if label else ""
        rows.append(f"{name} & {QUAD if continued else ''}{formula(first)}")
        rows += [f" & {'' if DEFINES.match(remark) else QUAD}{formula(remark)}" for remark in remarks]
    return r"\begin{aligned}" + r" \\ ".join(rows) + r"\end{aligned}"


def formula(text: str) -> str:
    """A line of an equation as TeX."""
    text = FLOOR.sub(r"⌊\1 / \2⌋", text.replace("`", ""))
    found = _until(TOKEN.findall(OVER.sub(rf"{LARGE_SIGN}\1 \2{INDICES_END} ", text)), "")
    found = found.replace(f"{WORDS_END}{WORDS}", " ")
    for sign in (r",\;", ";", ":"):
        found = found.replace(f"{WORDS_END}{sign}", f"{sign[0]}{WORDS_END}")
    return found.replace(rf"\ {WORDS}", WORDS).replace(WORDS, r"\text{ ").replace(WORDS_END, " }")


def _until(tokens: list[str], closing: str) -> str:
    """The TeX of the tokens in front of a closing bracket, which are taken from the list, as is the bracket."""
    found = ""
    before = PAIRS.get(closing, "")  # the token before, spaces left out
    while tokens:
        token = tokens.pop(0)
        if token == closing:
            return found
        after = next((each for each in tokens if not each.isspace()), closing)
        touching = tokens[0] if tokens else ""
        if token.isspace():
            found += r"\quad " if len(token) > 1 else ""
            continue
        if token == LARGE_SIGN:
            found += rf"{LARGE[tokens.pop(0)]}_{{{_until(tokens, INDICES_END)}}} "
        elif token == "[":
            inside = _until(tokens, "]")
            # What has an index already gets no second one.
            found += f"[{inside}]" if before == "]" else f"_{{{inside}}}"
            token = "]"
        elif token in ("**", "^"):
            found += f"^{{{_power(tokens)}}}"
        elif token == "(":
            found += f"({_until(tokens, ')')})"
            token = ")"
        elif token[0].isalpha():
            found += _word(token, before, after, touching, closing != "")
        else:
            found += SIGNS.get(token, token)
        before = token
    return found


def _power(tokens: list[str]) -> str:
    """The TeX of an exponent: a name, a number, or what stands in parentheses."""
    while tokens[0].isspace():
        tokens.pop(0)
    token = tokens.pop(0)
    return _until(tokens, ")") if token == "(" else _word(token, "^", "^", "", False)


def _word(token: str, before: str, after: str, touching: str, inside: bool) -> str:
    """A name with its index, or a word of a sentence with its spaces; commas within brackets are between names."""
    article = token == "a" and len(after) > 1 and after.isalpha()
    if len(token) == 1 and not article:
        return f"{token} "
    if "_" in token:
        name, _, index = token.partition("_")
        return rf"{_roman(name)}_{{{index}}}" if len(index) <= 2 else rf"\mathrm{{{name}\_{index}}}"
    left = before in BESIDE | OPENING or (inside and before == ",")
    right = after in BESIDE | CLOSING or (inside and after == ",")
    if not article and (touching in ("[", "(") or left or right):
        space = r"\ " if before[-1:].isalpha() and before not in PAIRS else ""
        return space + _roman(token) + (r"\ " if after[:1].isalpha() else "")
    return f"{WORDS}{token}{WORDS_END}"


def _roman(text: str) -> str:
    """A name in upright letters, if it has more than one."""
    return text if len(text) == 1 else rf"\mathrm{{{text}}}"
