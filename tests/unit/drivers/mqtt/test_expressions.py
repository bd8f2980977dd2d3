"""JMESPath expressions: what an operator is told about a wrong one, and what a document does to a right one."""

from __future__ import annotations

import jmespath
import pytest

from drivers.mqtt.expressions import ExpressionFailed, compile_expression, find

QUOTES = "keys with characters such as : - . or blanks take double quotes"


def fault(text: str) -> str:
    with pytest.raises(ValueError) as caught:
        compile_expression(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "document", "found"),
    [
        ("a.b", {"a": {"b": 1}}, 1),
        ('"em:0".total', {"em:0": {"total": 2}}, 2),
        ("a[-1]", {"a": [1, 2]}, 2),
        ("sum([a, b])", {"a": 1, "b": 2.5}, 3.5),
        ("sum(a[].k)", {"a": [{"k": 1}, {"k": 2}]}, 3),
        ("sum(a[].k)", {"a": [{}]}, None),
        ("sum(a)", {"a": []}, None),
        ("max(a)", {"a": []}, None),
        ("avg(a)", {"a": []}, None),
        ("a.b", {"a": 1}, None),
        ("a[0]", {"a": 1}, None),
        ("to_number(a)", {"a": "12 kWh"}, None),
        ("a || b", {"b": 3}, 3),
    ],
)
def test_an_expression_finds_a_value_or_nothing(text: str, document: object, found: object):
    """Nothing is None, never 0."""
    assert find(compile_expression(text), document) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must not be empty: write the path of the number in the JSON payload"),
        ("`0`", "must be a path, not a constant: keys with special characters take double quotes"),
        ("'total'", "must be a path, not a constant: keys with special characters take double quotes"),
        (
            "em:0.total",
            f'must be a JMESPath expression: unexpected ":" at position 3; {QUOTES}',
        ),
        (
            "a.",
            f"must be a JMESPath expression: it ends too early; {QUOTES}",
        ),
        ('"em:0".', "must be a JMESPath expression: it ends too early"),
        ("total(a)", "must be a JMESPath expression: unknown function: total()"),
    ],
)
def test_a_wrong_expression_is_refused_when_it_is_written(text: str, said: str):
    """The operator learns what is wrong and where, and of the double quotes that most mistakes lack."""
    assert fault(text) == said


def test_a_function_with_too_many_arguments_is_refused_when_it_is_written():
    """The number of arguments shows without a document."""
    assert fault("sum(a, b)").startswith("must be a JMESPath expression: expected 1 argument for function sum()")


def test_a_character_that_no_expression_has_is_pointed_at():
    """The position is the character's."""
    assert "at position 7" in fault("total =5")


@pytest.mark.parametrize(
    ("text", "document", "said"),
    [
        ("sum([a, b])", {"a": 1}, "sum() does not take null"),
        ("sum([a, b])", {"a": 1, "b": "2"}, "sum() does not take a text"),
        ("sum(a)", {"a": 5}, "sum() does not take a number"),
        ("abs(a)", {"a": {"secret": "hunter2"}}, "abs() does not take an object"),
        ("ceil(a)", {"a": True}, "ceil() does not take true or false"),
        ("join(',', a)", {"a": [[]]}, "join() does not take an array"),
    ],
)
def test_a_function_that_cannot_take_a_value_says_so_without_the_document(text: str, document: object, said: str):
    """The words are JSON's, and nothing of the payload is repeated."""
    with pytest.raises(ExpressionFailed) as caught:
        find(compile_expression(text), document)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("ceil(a)", {"a": float("inf")}),
        ("floor(a)", {"a": float("nan")}),
        ("sort_by(a, &b)", {"a": [{"b": 1}, {"b": "x"}]}),
        ("max_by(a, &b)", {"a": [{"b": None}]}),
        ("a[::0]", {"a": [1]}),
        ("to_number(@)", {"a": 1}),
    ],
)
def test_no_document_lets_an_expression_raise_anything_else(text: str, document: object):
    """What jmespath's own arithmetic and sorting cannot do is an expression's failure too, and is told in short."""
    said = ""
    try:
        find(compile_expression(text), document)
    except ExpressionFailed as error:
        said = str(error)
    assert len(said) <= 200


@pytest.mark.parametrize(
    "text",
    ["|".join(["[@, @]"] * 7), "|".join(["[@, @][]"] * 40), "map(&[@, @, @], a)[]" + "|map(&[@, @, @], @)[]" * 4],
)
def test_an_expression_that_multiplies_a_message_is_refused_when_it_is_written(text: str):
    """Each `[@, @]` after another doubles what there is: 40 of them would fill any memory."""
    assert fault(text).startswith("must be a JMESPath expression that takes the message at most 100 times")


@pytest.mark.parametrize(
    "text",
    ["sum([" + ", ".join(f"d{number}" for number in range(1, 25)) + "])", "a[].{v: x, t: y}", "[?a && b].c | [0]"],
)
def test_usual_expressions_do_not_multiply(text: str):
    """A sum of 24 increments, pairs of every item, filters."""
    compile_expression(text)


@pytest.mark.parametrize("text", ["a", "a.b", '"a:0".b.c', "a.b.c.d", "a[0].b", "a || b"])
@pytest.mark.parametrize(
    "document", [{"a": {"b": {"c": {"d": 7}}}, "a:0": {"b": {"c": 8}}}, {"a": [{"b": 9}]}, {"a": "b"}, {}, [], None, 5]
)
def test_a_path_of_keys_finds_what_the_interpreter_finds(text: str, document: object):
    """Such paths are walked without jmespath's interpreter, which costs ten times as much."""
    assert find(compile_expression(text), document) == jmespath.search(text, document)
