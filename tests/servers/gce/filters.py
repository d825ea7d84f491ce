"""List filters: the AIP-160 subset that the service takes, and its older `eq` and `ne` with regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.servers.gce.errors import Json, invalid

Predicate = Callable[[Json], bool]

_OPERATOR = re.compile(r"\s*(<=|>=|!=|=|:|<|>|(?:eq|ne)\b)\s*")
_FIELD = re.compile(r"\s*([A-Za-z_][\w.\-]*)")
_VALUE = re.compile(r"\"((?:\\.|[^\"\\])*)\"|'((?:\\.|[^'\\])*)'|([^\s()]+)")
_WORD = re.compile(r"\s*(AND|OR|NOT)\b")


IsField = Callable[[str], bool]


def parse(text: str, is_field: IsField) -> Predicate:
    """Return whether a resource matches; raises ApiError 400 for what is no filter, or names what cannot be filtered by."""
    parser = _Parser(text, is_field)
    predicate = parser.conjunction()
    if not parser.is_at_end() or parser.is_mixed():
        raise parser.error()
    return predicate


class _Parser:
    def __init__(self, text: str, is_field: IsField) -> None:
        self._text, self._at, self._is_field = text, 0, is_field
        self.styles: set[str] = set()
        self._has_words = False

    def error(self) -> Exception:
        return invalid("filter", self._text, "Invalid list filter expression.")

    def is_mixed(self) -> bool:
        """Return whether regular expressions stand beside the other kind, or beside AND and OR.

        https://github.com/googleapis/nodejs-compute/issues/48
        """
        return len(self.styles) > 1 or ("regex" in self.styles and self._has_words)

    def is_at_end(self) -> bool:
        return not self._text[self._at :].strip()

    def conjunction(self) -> Predicate:
        """Read terms that are joined by AND or by nothing; OR binds more tightly, as AIP-160 says."""
        parts = [self._disjunction()]
        while not self.is_at_end() and self._text[self._at :].lstrip()[0] != ")":
            self._take_word("AND")
            parts.append(self._disjunction())
        return lambda thing: all(part(thing) for part in parts)

    def _disjunction(self) -> Predicate:
        parts = [self._term()]
        while self._take_word("OR"):
            parts.append(self._term())
        return lambda thing: any(part(thing) for part in parts)

    def _term(self) -> Predicate:
        if self._take_word("NOT") or self._take("-"):
            inner = self._term()
            return lambda thing: not inner(thing)
        if self._take("("):
            inner = self.conjunction()
            if not self._take(")"):
                raise self.error()
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        field = self._match(_FIELD)[1]
        if not self._is_field(field):
            raise self.error()
        operator = self._match(_OPERATOR)[1]
        found = self._match(_VALUE)
        quoted = found[1] if found[1] is not None else found[2]
        value = found[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        self.styles.add("regex" if operator in ("eq", "ne") else "aip")
        test = _test(operator, value, is_quoted=quoted is not None)
        return lambda thing: test(_look_up(thing, field))

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if not found:
            raise self.error()
        self._at = found.end()
        return found

    def _take(self, sign: str) -> bool:
        rest = self._text[self._at :]
        if rest.lstrip().startswith(sign):
            self._at += len(rest) - len(rest.lstrip()) + len(sign)
            return True
        return False

    def _take_word(self, word: str) -> bool:
        found = _WORD.match(self._text, self._at)
        if found and found[1] == word:
            self._at = found.end()
            self._has_words = self._has_words or word != "NOT"
            return True
        return False


def _look_up(thing: Any, field: str) -> list[Any]:
    """Return the values of a field; several where there is a list on the way."""
    if isinstance(thing, list):
        return [value for item in thing for value in _look_up(item, field)]
    if not field:
        return [thing]
    if not isinstance(thing, dict):
        return []
    if field in thing:
        return _look_up(thing[field], "")
    head, _, rest = field.partition(".")
    return _look_up(thing[head], rest) if rest and head in thing else []


def _test(operator: str, value: str, *, is_quoted: bool) -> Callable[[list[Any]], bool]:
    if operator in ("eq", "ne"):
        pattern = re.compile(value)
        return lambda found: any(pattern.fullmatch(_text(item)) for item in found) == (operator == "eq")
    if operator == ":" and value == "*" and not is_quoted:
        return bool
    if operator in ("=", "!="):
        return lambda found: any(_equals(_text(item), value) for item in found) == (operator == "=")
    if operator == ":":
        return lambda found: any(_has(item, value) for item in found)
    return lambda found: any(_is_ordered(_text(item), operator, value) for item in found)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _equals(text: str, value: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, value.split("*"))), text) is not None


def _has(item: object, value: str) -> bool:
    if isinstance(item, dict):
        return value in item
    return value.replace("*", "").lower() in _text(item).lower()


def _is_ordered(text: str, operator: str, value: str) -> bool:
    left, right = _comparable(text), _comparable(value)
    if type(left) is not type(right):
        left, right = text, value
    return bool({"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[operator])


def _comparable(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return found.timestamp()
    except ValueError:
        return text
