"""What is written about the configuration is true: the reference page, the example, and every TOML block and command in the docs."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from drivers import registry
from drivers.modbus import profile as profiles
from drivers.mqtt import preset as presets
from gateway.cli import COMMANDS
from gateway.enerkey.contract import Contract
from gateway.faults import Findings, Origin, Place
from gateway.sections import (
    AccountSection,
    ApiKey,
    BufferSection,
    ClockSection,
    EnerkeySection,
    File,
    GatewaySection,
    HoursSection,
    MeterSection,
)
from gateway.validating import check_table

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.toml").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

MODELS: dict[str, type[BaseModel]] = {
    "gateway": GatewaySection,
    "clock": ClockSection,
    "hours": HoursSection,
    "buffer": BufferSection,
    "enerkey": EnerkeySection,
    "enerkey.accounts.north": AccountSection,
    "enerkey.contract": Contract,
    "connections.main": registry.config_of("modbus").Connection,
    "connections.hall": registry.config_of("mqtt").Connection,
    "meters": MeterSection,
    "meters.source on Modbus": registry.config_of("modbus").Source,
    "meters.source on MQTT": registry.config_of("mqtt").Source,
}
TABLES = {"accounts", "contract", "source"}  # written as tables of their own

_HEADER = re.compile(r"(?:# )?\[{1,2}([\w.]+)\]{1,2}\s*(?:#.*(on Modbus|on MQTT))?")
_KEY = re.compile(r"(# )?(\w+) = ")


def blocks() -> Iterator[tuple[str, list[tuple[str, bool, str]]]]:
    """The example's sections, commented or not: their name and their (key, whether it is a comment, line)."""
    name, found = "", []
    for line in EXAMPLE.splitlines():
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            yield name, found
            name, found = " ".join(part for part in header.groups() if part), []
        elif key:
            found.append((key[2], bool(key[1]), line.removeprefix("# ")))
    yield name, found


def written(name: str, *, comments_only: bool = False) -> dict[str, Any]:
    """Every key of the sections of this name with its value."""
    values: dict[str, Any] = {}
    for block, lines in blocks():
        for key, comment, line in lines if block == name else ():
            if comment or not comments_only:
                values[key] = tomllib.loads(line)[key]
    return values


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """`scripts/docs`, loaded into this process."""
    loader = SourceFileLoader("scripts_docs", str(ROOT / "scripts" / "docs"))
    module = module_from_spec(spec_from_loader("scripts_docs", loader))
    loader.exec_module(module)
    return module


def test_the_reference_page_is_in_step_with_the_models(script: ModuleType):
    """`scripts/docs` makes it; after a change it must be run again."""
    assert script.main(["--check"]) == 0


def test_a_page_that_is_out_of_date_fails_the_check(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """And says what to do; each of the pages is looked at."""
    assert script.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err == "".join(
        f"docs/{name} is out of date: run scripts/docs\n"
        for name in ("configuration.md", "meters.md", "mqtt-devices.md")
    )
    assert script.main([], tmp_path) == 0
    assert script.main(["--check"], tmp_path) == 0
    for name, word in (
        ("configuration.md", "`poll`"),
        ("meters.md", "`energy_import_total`"),
        ("mqtt-devices.md", "`kWh`"),
    ):
        page = tmp_path / name
        good = page.read_text("utf-8")
        page.write_text(good.replace(word, "`pol`"), "utf-8")
        assert script.main(["--check"], tmp_path) == 1
        assert capsys.readouterr().err == f"docs/{name} is out of date: run scripts/docs\n"
        page.write_text(good, "utf-8")
    assert script.main(["--chek"], tmp_path) == 2


def test_every_profile_stands_on_the_page_of_meters_with_every_point():
    """With its status, and a table of its own."""
    page = (ROOT / "docs" / "meters.md").read_text("utf-8")
    for name in profiles.names():
        profile = profiles.load(name)
        assert re.search(rf"^\| \[`{name}`\]\(#{name}\) \| .+ \| {profile.status} \|", page, re.MULTILINE), name
        (about,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert re.findall(r"^\| `(\w+)` \|", about, re.MULTILINE) == list(profile.points)


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_has_a_section_with_all_its_points_and_needs(name: str):
    """What only the operator knows is among them."""
    page = (ROOT / "docs" / "mqtt-devices.md").read_text("utf-8")
    section = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
    preset = presets.load(name)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(preset.points)
    assert re.findall(r"^- \*\*`(\w+)`\*\*: .", section, re.MULTILINE) == list(preset.needs)
    assert preset.source in section


@pytest.mark.parametrize("name", MODELS)
def test_every_key_has_a_row_on_the_page(name: str):
    """With what it takes and means."""
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for key in MODELS[name].model_fields:
        row = re.search(rf"^\| `{key}` \| (.+) \| (.*) \| (.+) \|$", page, re.MULTILINE)
        assert row, key


@pytest.mark.parametrize("name", MODELS)
def test_the_example_shows_every_key_and_no_other(name: str):
    """At least as a comment; whoever adds a key adds it there too."""
    assert set(written(name)) - TABLES == set(MODELS[name].model_fields) - TABLES


def test_the_page_tells_what_a_key_in_a_table_has():
    """And the example shows one that expires."""
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert all(f"| `{key}` |" in page for key in ApiKey.model_fields)
    assert "expires = 2027-01-31" in EXAMPLE


def test_the_example_names_what_stands_above_the_first_section():
    """The spreadsheet."""
    assert set(written("")) == set(File.model_fields) - {
        "gateway", "clock", "hours", "buffer", "enerkey", "connections", "meters",
    }  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_examples_values_are_right_and_its_comments_are_the_defaults(name: str):
    """Whoever takes a # away has changed nothing, where there is a default."""
    model = MODELS[name]
    table = {key: value for key, value in written(name).items() if key in model.model_fields}
    findings = Findings("")
    checked = check_table(model, table, Place(Origin("")), findings)
    assert [str(fault) for fault in findings] == []
    for key in written(name, comments_only=True):
        default = model.model_fields[key].get_default(call_default_factory=True)
        if default not in {None, ()} and not model.model_fields[key].is_required():
            assert getattr(checked.value, key) == default, key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_toml_block_in_the_docs_is_toml(page: Path):
    """And its sections are sections of a configuration."""
    for block in re.findall(r"^```toml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        assert set(tomllib.loads(block)) <= set(File.model_fields), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_docs_exists(page: Path):
    """`meter-gateway COMMAND`, wherever it is shown as code."""
    text = page.read_text("utf-8")
    code = re.findall(r"`([^`\n]+)`|^ {4}(.+)$", text, re.MULTILINE)
    words = [word for piece in code for word in re.findall(r"\bmeter-gateway ([a-z][\w-]*)", "".join(piece))]
    assert set(words) <= set(COMMANDS)


def test_the_profile_on_the_page_of_meters_is_one():
    """What a person copies is what `check` takes, and no key of it can be left out."""
    page = (ROOT / "docs" / "meters.md").read_text("utf-8")
    block = textwrap.dedent(page[page.index("    manufacturer = ") :].partition("\n\n*This")[0])
    assert profiles.parse(block, "example").points["energy_import_total"].register == 52
    for line in block.splitlines()[:4]:
        with pytest.raises(ValueError, match=line.partition(" ")[0]):
            profiles.parse(block.replace(line, ""), "example")
