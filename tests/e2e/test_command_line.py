"""The command line as a person meets it: help, wrong words, terminals, pipes, and what is loaded for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import COMMANDS
from tests.fakes.command_line import (
    COMMAND,
    INTERRUPTIBLE,
    command,
    command_bound_by_permissions,
    environment,
    on_terminal,
)
from tests.fakes.site import Site

HEAVY = ("pydantic", "httpx", "pymodbus", "paho", "sqlite3", "asyncio", "jmespath")
ESCAPE = "\033["


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A database that knows the meters."""
    site = Site(tmp_path)
    site.make()
    return site


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command(words: tuple[str, ...]):
    """Also without any word: exit code 0, on stdout."""
    done = command(*words)
    assert (done.code, done.err) == (0, "")
    assert all(f"\n    {name} " in done.out for name in COMMANDS)


def test_the_version_is_one_line():
    """As scripts want it."""
    assert command("--version") == (0, f"meter-gateway {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [40, 80])
def test_every_command_explains_itself_within_the_terminal(name: str, columns: int):
    """40 columns hold the help of each command, the usage lines included."""
    done = command(name, "--help", COLUMNS=str(columns))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: meter-gateway {name}")
    assert max(map(len, done.out.splitlines())) <= columns


def test_a_long_usage_is_broken_once_and_says_what_the_command_does():
    """Between words at the terminal's width; the commands of a command tell what they are for, too."""
    lines = command("meter", "replaced", "--help", COLUMNS="80").out.splitlines()
    assert lines[:2] == [
        "usage: meter-gateway meter replaced [options] --at TIME --old-final VALUE",
        "  --new-initial VALUE NAME",
    ]
    assert lines[3] == "Another meter (or register) hangs here now."


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["nonsense"], ["status"], ["hours", "x"]])
def test_what_should_be_quick_loads_nothing_heavy(words: list[str]):
    """They must be quick on a small box: neither pydantic nor httpx nor a driver's library is imported.

    Nor for `status` and `hours`, which people call again and again; those may load SQLite.
    """
    code = (
        "import contextlib, io, json, sys\n"
        "from gateway.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    run({words!r})\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(done.stdout))
    assert "gateway.cli" in loaded
    heavy = {*HEAVY} - ({"sqlite3"} if words[0] in COMMANDS else set())
    assert loaded & heavy == set()


# --- wrong words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], 'there is no command "statsu" (did you mean "status"?); see meter-gateway --help'),
        (["frobnicate"], 'there is no command "frobnicate"; see meter-gateway --help'),
        (["status", "--jsno"], 'there is no option --jsno (did you mean "--json"?); see meter-gateway status --help'),
        (["status", "--js"], 'there is no option --js (did you mean "--json"?); see meter-gateway status --help'),
        (["--nonsense"], "there is no option --nonsense; see meter-gateway --help"),
        (["run", "extra"], '"extra" is one word too many; see meter-gateway run --help'),
        (["hours"], "the following arguments are required: METER; see meter-gateway hours --help"),
        (["-c"], "-c/--config: expected one argument; see meter-gateway --help"),
        (["simulate"], "the following arguments are required: WHAT; see meter-gateway simulate --help"),
    ],
)
def test_wrong_words_end_in_one_clear_line(words: list[str], said: str):
    """Exit code 2, nothing on stdout; what was probably meant, and where to read on."""
    assert command(*words) == (2, "", f"meter-gateway: {said}\n")


def test_wrong_words_as_json_where_that_was_asked_for():
    """A script finds one document on stdout whatever happens."""
    done = command("status", "--json", "extra")
    assert done.code == 2
    assert json.loads(done.out)["error"]["code"] == 2


def test_common_options_stand_before_or_behind_the_command(site: Site):
    """`-c` and `--json` mean the same in both places; a file named like a command is still a file."""
    behind = command("hours", "chiller", "--json", "-c", site.config)
    assert behind.code == 0
    assert command("--json", "-c", site.config, "hours", "chiller") == behind
    assert command("-c", site.config, "hours", "chiller", "--json") == behind
    assert command("--json", "hours", "chiller", METER_GATEWAY_CONFIG=str(site.config)) == behind
    assert command("-c", "run", "hours", "chiller").code == 78


@pytest.mark.parametrize("words", [["status"], ["hours", "x"], ["read"], ["run"], ["push", "--dry-run"]])
def test_a_configuration_that_is_not_there_is_named(tmp_path: Path, words: list[str]):
    """Exit code 78, with the path; the same as JSON."""
    done = command(*words, "-c", tmp_path / "nowhere.toml")
    assert (done.code, done.out) == (78, "")
    assert f"{tmp_path}/nowhere.toml" in done.err
    assert "Traceback" not in done.err
    assert json.loads(command(*words, "--json", "-c", tmp_path / "nowhere.toml").out)["error"]["code"] == 78


# --- terminals and pipes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("status",), ("run",), ("push", "--dry-run"), ("scan", "tcp://127.0.0.1:1")])
def test_a_configuration_that_may_not_be_read_is_a_matter_of_permission(tmp_path: Path, words: tuple[str, ...]):
    """Exit code 77 from every command, as for a device or a database."""
    config = tmp_path / "config.toml"
    config.touch(mode=0)
    done = command_bound_by_permissions(*words, "-c", config)
    assert (done.code, done.out) == (77, "")
    assert str(config) in done.err
    assert "try again with sudo" in done.err


def test_colour_only_on_a_terminal_that_wants_it(site: Site):
    """no-color.org; --no-color before and behind the command; never into a pipe; never meaning by colour alone."""
    words = ("status", "-c", site.config)
    assert ESCAPE in on_terminal(*words).out
    plain = on_terminal(*words, NO_COLOR="1").out
    assert ESCAPE not in plain
    assert on_terminal(*words, TERM="dumb").out == plain
    assert on_terminal(*words, "--no-color").out == plain
    assert on_terminal("--no-color", *words).out == plain
    assert command(*words).out == plain
    assert "not running" in plain


@pytest.mark.parametrize(
    "words", [["status"], ["hours", "chiller", "--all"], ["read", "--wait", "0"], ["hours", "chillr"]]
)
def test_a_narrow_terminal_is_wide_enough(site: Site, words: list[str]):
    """On 40 columns no line runs over the edge, errors included."""
    site.close_hours("chiller", datetime(2026, 11, 1, tzinfo=UTC), 3)
    done = on_terminal(*words, "-c", site.config, columns=40, NO_COLOR="1")
    long = [line for line in done.out.splitlines() if len(line) > 40]
    assert [line for line in long if len(line.split()) > 1] == [], "only a single word, a path, may be longer"


def test_who_waits_on_a_terminal_is_told_for_what(site: Site):
    """And a pipe is not: neither its stdout nor its stderr."""
    words = ("read", "cold-water", "--wait", "0.2", "-c", site.config)
    told = "listening to hall, 0.2 s at most; Ctrl-C shows what is there\n"
    assert on_terminal(*words).out.startswith(told)
    piped = command(*words)
    assert "listening" not in piped.out + piped.err


def piped_into_head(*words: str | Path) -> tuple[int, bytes]:
    """As `meter-gateway … | head -c 1`: its exit code and what it says on stderr."""
    with subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(COLUMNS="200")
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(1)
        process.stdout.close()
        return process.wait(60), process.stderr.read()


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_a_reader_who_has_had_enough_is_no_failure(site: Site, form: list[str]):
    """More lines than a pipe holds, of which the reader takes one: exit code 0, not a word."""
    site.close_hours("chiller", datetime(2026, 1, 1, tzinfo=UTC), 6000)
    assert piped_into_head("hours", "chiller", "--all", *form, "-c", site.config) == (0, b"")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["status"], ["hours", "chiller", "--csv"]])
def test_a_reader_who_is_gone_already_is_no_failure(site: Site, words: list[str]):
    """What is still in the buffer at the end meets a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60,
        env=environment(METER_GATEWAY_CONFIG=str(site.config)),
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [["status"], ["hours", "chiller", "--csv"], ["status", "--json"]])
def test_a_full_disk_behind_the_output_is_said_in_a_sentence(site: Site, words: list[str]):
    """Exit code 74, no traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60,
            env=environment(METER_GATEWAY_CONFIG=str(site.config)),
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (74, b"meter-gateway: [Errno 28] No space left on device\n")


def test_without_any_output_it_still_ends_with_its_code(site: Site):
    """`>&- 2>&-`: the caller has closed both."""
    program = " ".join(COMMAND)
    script = f"{program} status -c {site.config} >&- 2>&-; echo $?; {program} nonsense >&- 2>&-; echo $?"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60, env=environment()
    )
    assert (done.stdout, done.stderr) == ("69\n2\n", "")


def test_a_terminal_that_knows_no_more_than_ascii_ends_no_command(tmp_path: Path):
    """What it cannot show becomes a question mark."""
    site = Site(tmp_path)
    site.config.write_text(site.config.read_text().replace('unit = "m3"', 'unit = "m³"'))
    site.make()
    site.close_hours("cold-water", datetime(2026, 11, 1, tzinfo=UTC), 1)
    done = command("hours", "cold-water", "--all", "-c", site.config, PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert "m?" in done.out


def test_interrupted_while_it_starts_it_ends_quietly(site: Site):
    """Ctrl-C a moment after Enter: exit code 130 or that of the signal, and no traceback."""
    for _ in range(5):
        with subprocess.Popen(
            [*INTERRUPTIBLE, "read", "--wait", "60", "-c", site.config],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(PYTHONVERBOSE="1"),
        ) as process:  # fmt: skip
            assert process.stderr
            until_import_of(process.stderr, b"import 'gateway.cli'")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert b"Traceback" not in errors
        assert process.returncode == 130


def until_import_of(stream, module: bytes) -> None:
    """Read what `python -v` says until a module has been loaded."""
    for said in stream:
        if said.startswith(module):
            return
    raise AssertionError(f"no {module!r}")
