"""JMESPath (https://jmespath.org/specification.html), with messages for people and one kind of failure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, cast

import jmespath
from jmespath.exceptions import (
    ArityError,
    JMESPathError,
    JMESPathTypeError,
    LexerError,
    ParseError,
    UnknownFunctionError,
)
from jmespath.functions import Functions, signature

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
# what jmespath 1.1 lets out of `search`: its own errors are ValueErrors, the rest comes from its functions' arithmetic
_WORDS = {  # jmespath names a type sometimes in Python's words, sometimes in its own
    "NoneType": "null",
    "str": "a text",
    "string": "a text",
    "bool": "true or false",
    "boolean": "true or false",
    "int": "a number",
    "float": "a number",
    "number": "a number",
    "list": "an array",
    "array": "an array",
    "dict": "an object",
    "object": "an object",
    "Twice": "a key that is there twice",
    "unknown": "a key that is there twice",
}


class _Functions(Functions):  # type: ignore[misc]  # jmespath has no types
    """jmespath's functions, except that nothing has no sum: a filter that finds no item must not read as 0."""

    @signature({"types": ["array-number"]})  # type: ignore[untyped-decorator]
    def _func_sum(self, numbers: list[float]) -> float | None:
        return sum(numbers) if numbers else None


MOST_COPIES = 100  # of a document that an expression may make; each `[@, @]` after another doubles them

_OPTIONS = jmespath.Options(custom_functions=_Functions())


class ExpressionFailed(Exception):  # noqa: N818 - says what happened
    """An expression that cannot be applied to a document; the text says why, without the document."""


class Expression(Protocol):
    """A compiled expression."""

    def search(self, value: object, options: object = None) -> Any:  # noqa: ANN401 - a piece of any JSON document
        """What the expression finds; None where there is nothing."""
        ...


def compile_expression(text: str) -> Expression:
    """The compiled expression; raises ValueError with what is wrong with it and where."""
    try:
        compiled: Any = jmespath.compile(text)
    except ParseError as error:
        raise ValueError(_parse_fault(error, text)) from None
    except RecursionError:
        raise ValueError("must be a JMESPath expression with fewer brackets in one another") from None
    except JMESPathError:
        raise ValueError("must not be empty: write the path of the number in the JSON payload") from None
    if compiled.parsed["type"] == "literal":
        raise ValueError("must be a path, not a constant: keys with special characters take double quotes")
    if _copies(compiled.parsed) > MOST_COPIES:
        raise ValueError(f"must be a JMESPath expression that takes the message at most {MOST_COPIES} times")
    try:
        compiled.search({}, _OPTIONS)  # a function's name and number of arguments show only when it is called
    except (UnknownFunctionError, ArityError) as error:
        raise ValueError(f"must be a JMESPath expression: {_lowered(str(error))}") from None
    except _FAILURES:
        pass  # a type that an empty object cannot have
    keys = _plain_path(compiled.parsed)
    return _PlainPath(keys) if keys else cast("Expression", compiled)


class _PlainPath:
    """An expression that is nothing but keys, which most are: walked here at a tenth of the interpreter's price."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def search(self, value: object, options: object = None) -> Any:  # noqa: ANN401 - as in the protocol
        """What the keys lead to; None where one leads nowhere."""
        del options
        for key in self._keys:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value


def _plain_path(parsed: dict[str, Any]) -> list[str]:
    """The keys of a parsed expression such as `a.b."c:d"`; none where it is more than that."""
    if parsed["type"] == "field":
        return [parsed["value"]]
    if parsed["type"] != "subexpression":
        return []
    parts = [_plain_path(child) for child in parsed["children"]]
    return [key for part in parts for key in part] if all(parts) else []


def find(expression: Expression, document: object) -> Any:  # noqa: ANN401 - a piece of any JSON document
    """What the expression finds in a document, None where there is nothing; raises ExpressionFailed."""
    try:
        return expression.search(document, _OPTIONS)
    except JMESPathTypeError as error:  # its own text repeats the document
        what = _WORDS.get(error.actual_type, error.actual_type)
        raise ExpressionFailed(f"{error.function_name}() does not take {what}") from None
    except _FAILURES as error:
        raise ExpressionFailed(str(error)[:200]) from None


def _copies(node: dict[str, Any]) -> int:
    """At most so many copies of a document does what the expression makes of it hold."""
    below = [_copies(each) for each in node["children"] if isinstance(each, dict)]
    if node["type"].startswith("multi_select") or node["type"] in {"comparator", "or_expression", "and_expression"}:
        return sum(below)
    return min(math.prod(below), MOST_COPIES + 1)


def _parse_fault(error: ParseError, text: str) -> str:
    if isinstance(error, LexerError):
        unexpected = f"{_lowered(error.message)} at position {error.lexer_position + 1}"
    elif not error.token_value:
        unexpected = "it ends too early"
    else:
        unexpected = f'unexpected "{error.token_value}" at position {error.lex_position + 1}'
    hint = "" if '"' in text else "; keys with characters such as : - . or blanks take double quotes"
    return f"must be a JMESPath expression: {unexpected}{hint}"


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
