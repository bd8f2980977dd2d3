"""How the command ends where it is interrupted before it has begun."""

from __future__ import annotations

import pytest
from pydantic_core import SchemaError, SchemaValidator, core_schema

from gateway.__main__ import is_interrupt


class Interrupted:
    """Ctrl-C comes while pydantic looks at it."""

    def __repr__(self) -> str:
        raise KeyboardInterrupt


def test_ctrl_c_while_a_model_is_built_is_an_interrupt():
    """Pydantic makes a SchemaError of it, which would be shown as a failure of the program's, with a traceback."""
    with pytest.raises(SchemaError) as caught:
        SchemaValidator(core_schema.literal_schema([Interrupted()]))
    assert is_interrupt(caught.value)
    assert is_interrupt(KeyboardInterrupt())


def test_a_real_failure_is_none():
    """Its traceback is wanted, whatever its words."""
    with pytest.raises(SchemaError) as caught:
        SchemaValidator({"type": "none such"})  # type: ignore[arg-type]
    assert not is_interrupt(caught.value)
    assert not is_interrupt(ValueError("KeyboardInterrupt"))
    assert not is_interrupt(SystemExit(2))
