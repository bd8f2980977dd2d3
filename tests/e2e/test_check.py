"""`meter-gateway check` as an operator runs it: everything that is wrong, at once, and nothing that must stay unsaid."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.command_line import Done, command, command_bound_by_permissions, on_terminal

ROOT = Path(__file__).parents[2]
CANARY = "canary-3f9a"

FIVE = """\
[gateway]
name = "site 42"
[enerkey]
api_keys = ["credential:enerkey-1"]
[connections.main]
driver = "modbus"
url = "tcp://192.0.2.10:70000"
pol = "60s"
[[meters]]
name = "heat"
enerkey_id = 1
push = "consumptions"
unit = "MWh"
source = { connection = "mian", device = 7, register = 1024, type = "u32", unit = "GJ" }
"""

FIVE_SAID = """\
FILE:2: gateway.name: must be up to 64 letters, digits and "-", "_", ".", beginning with a letter or digit, not "site 42"
    2 | name = "site 42"
FILE:7: connections.main.url: must have a port between 1 and 65535, not "tcp://192.0.2.10:70000"
    7 | url = "tcp://192.0.2.10:70000"
FILE:8: connections.main.pol: unknown key; did you mean "poll"?
    8 | pol = "60s"
FILE:12: meters.heat.push: must be one of "consumption", "cumulative", "off", not "consumptions"
   12 | push = "consumptions"
FILE:14: meters.heat.source.connection: unknown connection "mian"; there are: main; did you mean "main"?
   14 | source = { connection = "mian", device = 7, register = 1024, type = "u32", unit = "GJ" }
FILE: 5 mistakes
"""

GOOD = """\
[connections.main]
driver = "modbus"
url = "tcp://192.0.2.10"
[[meters]]
name = "heat"
push = "off"
unit = "MWh"
max_rate = 2
source = { connection = "main", device = 7, register = 1024, type = "u32", unit = "GJ" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without mistakes."""
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    return path


def check(path: Path, *words: str, **environment: str) -> Done:
    """Run it."""
    return command("check", "-c", path, *words, **environment)


def test_five_mistakes_are_named_all_at_once(config: Path):
    """Exactly so: file, line, key path, what is allowed, the value, what was meant, and the line."""
    config.write_text(FIVE)
    assert check(config) == Done(78, FIVE_SAID.replace("FILE", str(config)), "")


def test_the_same_five_as_one_json_document(config: Path):
    """For those who show them elsewhere; null where there is nothing to say."""
    config.write_text(FIVE)
    done = check(config, "--json")
    document = json.loads(done.out)
    assert (done.code, done.err, document["ok"], document["warnings"]) == (78, "", False, [])
    assert [fault["path"] for fault in document["faults"]] == [
        "gateway.name", "connections.main.url", "connections.main.pol", "meters.heat.push", "meters.heat.source.connection",
    ]  # fmt: skip
    assert document["faults"][2] == {
        "file": str(config),
        "line": 8,
        "column": None,
        "path": "connections.main.pol",
        "message": "unknown key",
        "value": None,
        "suggestion": "poll",
        "excerpt": 'pol = "60s"',
    }


@pytest.mark.parametrize("columns", [80, 40])
def test_every_line_fits_the_terminal(config: Path, columns: int):
    """Whatever is longer than the terminal is a single word."""
    config.write_text(FIVE)
    done = on_terminal("check", "-c", config, columns=columns)
    too_long = [line for line in done.out.splitlines() if len(line) > columns]
    assert done.code == 78
    assert all(len(line.split()) == 1 for line in too_long)
    assert "".join(done.out.split()).count("didyoumean") == 2


def test_a_right_one_says_so_in_one_line(config: Path):
    """And leaves nothing behind."""
    assert check(config) == Done(0, f"{config}: ok: 1 meter on 1 connection\n", "")
    assert json.loads(check(config, "--json").out) == {"ok": True, "faults": [], "warnings": [], "meters": ["heat"]}
    assert list(config.parent.iterdir()) == [config]


def test_warnings_do_not_change_the_exit_code(config: Path):
    """What works is not refused."""
    config.write_text(GOOD.replace("max_rate = 2\n", ""))
    done = check(config)
    assert done.code == 0
    assert done.out.startswith(f"warning: {config}:4: meters.heat.max_rate: not set: no jump")
    assert done.out.endswith(f"{config}: ok: 1 meter on 1 connection, 1 warning\n")
    document = json.loads(check(config, "--json").out)
    assert (document["ok"], len(document["warnings"])) == (True, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'[gateway]\nname = "a"\n[hours\n', ":3:7: is a section that is not closed with ]"),
        (b"[gateway]\nname = a\n", ":2:8: gateway.name: is not a value; texts and durations are written in quotes"),
        (b'[gateway]\nname = "\xff"\n', ":2: is not UTF-8 text; save it as UTF-8"),
        (b"\xff\xfe[\x00g\x00", ":1: is not UTF-8 text; save it as UTF-8"),
        (b"", ": meters: missing: write a [[meters]] for each meter, or meters_file"),
    ],
    ids=["no bracket", "no quotes", "latin-1", "utf-16", "empty"],
)
def test_a_file_that_is_no_toml_says_where(config: Path, text: bytes, said: str):
    """A syntax error has its line and column."""
    config.write_bytes(text)
    done = check(config)
    assert done.code == 78
    assert f"{config}{said}\n" in done.out
    assert json.loads(check(config, "--json").out)["ok"] is False


def test_a_file_from_windows_is_right_as_it_is(config: Path):
    """With a byte order mark, and with line ends of two characters."""
    config.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert check(config).code == 0


def test_what_cannot_be_read_says_why_and_what_to_do(config: Path):
    """A missing file, a directory, a pipe without an end, a file of somebody else: only the last is a matter of permission."""
    config.chmod(0)
    (config.parent / "broken").symlink_to("nowhere")
    os.mkfifo(config.parent / "fifo")
    missing = "cannot be read: No such file or directory; write the path of a file that is there"
    denied = "cannot be read: Permission denied; try again with sudo, or let the user who runs this read it"
    for path, code, said in [
        (config.parent / "no.toml", 78, missing),
        (config.parent / "broken", 78, missing),
        (config.parent, 78, "cannot be read: Is a directory; write the path of a file"),
        (config.parent / "fifo", 78, "is a pipe that nothing came out of; write the path of a file"),
        (config, 77, denied),
    ]:
        done = command_bound_by_permissions("check", "-c", path)
        assert done == Done(code, f"{path}: {said}\n{path}: 1 mistake\n", "")
        document = json.loads(command_bound_by_permissions("check", "--json", "-c", path).out)
        assert document["faults"][0]["message"] == said


def test_a_spreadsheet_that_may_not_be_read_is_a_matter_of_permission_unless_there_are_mistakes_too(config: Path):
    """Exit code 77 where sudo is all that is missing."""
    meters = config.parent / "meters.csv"
    meters.touch(mode=0)
    config.write_text('meters_file = "meters.csv"\n' + GOOD)
    done = command_bound_by_permissions("check", "-c", config)
    assert (done.code, done.err) == (77, "")
    assert "meters.csv cannot be read: Permission denied; try again with sudo" in done.out
    config.write_text(config.read_text().replace("MWh", "mWh"))
    assert command_bound_by_permissions("check", "-c", config).code == 78


def test_a_certificate_behind_a_closed_door_is_a_mistake_and_no_crash(config: Path):
    """A directory that the service may not enter."""
    closed = config.parent / "closed"
    closed.mkdir()
    (closed / "ca.pem").touch()
    closed.chmod(0)
    config.write_text(f'[enerkey]\nca_file = "{closed}/ca.pem"\n{GOOD.replace("tcp:", "tls:")}')
    config.write_text(config.read_text().replace("[[meters]]", f'ca_file = "{closed}/ca.pem"\n[[meters]]'))
    done = command_bound_by_permissions("check", "-c", config)
    assert (done.code, done.err) == (78, "")
    assert done.out.count("names a file that is not there") == 2


def test_the_environment_names_the_file_too(config: Path):
    """As the unit does."""
    assert command("check", METER_GATEWAY_CONFIG=str(config)).code == 0


def test_a_spreadsheets_mistakes_have_its_name_and_row(config: Path):
    """Beside those of the configuration."""
    config.write_text('meters_file = "meters.csv"\n' + GOOD.replace("MWh", "mWh"))
    (config.parent / "meters.csv").write_text(
        "name,push,unit,max_rate,connection,device,register,typ,source_unit\nwater,of,m3,5,main,1,0,u32,m3\n"
    )
    done = check(config)
    assert done.code == 78
    assert [line.partition(": ")[0].rpartition("/")[2] for line in done.out.splitlines() if "| " not in line] == [
        "config.toml:8", "meters.csv:1", "meters.csv:2", "config.toml",
    ]  # fmt: skip
    assert 'column typ: unknown column; did you mean "type"?' in done.out


def test_run_lists_the_same_mistakes_and_starts_nothing(config: Path):
    """Exit 78, so that systemd does not start it again and again; no database, no connection."""
    config.write_text(FIVE.replace("[gateway]", f'[gateway]\ndata_dir = "{config.parent}/data"'))
    done = command("run", "-c", config)
    assert done.code == 78
    assert "5 mistakes" in done.err
    assert all(key in done.err for key in ("gateway.name", "main.url", "main.pol", "heat.push", "source.connection"))
    assert not (config.parent / "data").exists()


HOSTILE = f"""\
[enerkey]
url = "https://user:{CANARY}@api.enerkey.com"
api_keys = [
    "{CANARY}-one",
    5,
    "",
]
api-key = "{CANARY}"
key = "{CANARY}"
settle = "{CANARY}
[connections.main]
driver = "mqtt"
url = "mqtt://user:{CANARY}{"x" * 100}@host"
username = "u"
pasword = "{CANARY}"
[connections.other]
driver = "mqtt"
url = "mqtt://host"
password = {{ value = "{CANARY}" }}
passphrase = "{CANARY}"
kennwort = "{CANARY}"
[connections]
third = {{ driver = "mqtt", url = "mqtt://host", password = "{CANARY}", pol = 1, port = "{CANARY}" }}
[[connections.fourth]]
password = "{CANARY}"
[[meters]]
name = "a"
push = "of"
unit = "kWh"
source = {{ connection = "main", topic = "mqtt://u:{CANARY}@h/#/x", unit = "kWh", password = "{CANARY}" }}
"""


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE.replace(f'settle = "{CANARY}\n', "")], ids=["no toml", "toml"])
@pytest.mark.parametrize("word", ["--no-color", "--json", "--verbose"])
def test_no_secret_is_shown_whatever_is_wrong_around_it(config: Path, text: str, word: str):
    """Keys and passwords in the right places and in all the wrong ones."""
    config.write_text(text)
    for done in (check(config, word), command("run", "-c", config)):
        assert done.code == 78
        assert CANARY not in done.out + done.err
        assert "api_keys" in done.out + done.err


def test_literal_secrets_are_warned_about_and_not_shown(config: Path):
    """They work, but stand in every backup of the file."""
    config.write_text(
        f'[enerkey]\napi_keys = ["{CANARY}"]\n[connections.hall]\ndriver = "mqtt"\nurl = "mqtt://h"\nusername = "u"\n'
        f'password = "{CANARY}"\n{GOOD}'
    )
    done = check(config)
    assert done.code == 0
    assert CANARY not in done.out + check(config, "--json").out
    assert done.out.count('better keep it elsewhere: "credential:NAME", "env:NAME" or "file:/PATH"') == 2


def test_names_and_paths_reach_a_poor_terminal(config: Path):
    """Escapes for what would move the cursor, question marks for what its character set lacks."""
    path = config.parent / "site\x1b[31m-\udcff.toml"
    path.write_text(GOOD.replace("GJ", "m³").replace("heat", "h\u202eat"))
    done = check(path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.code == 78
    assert "site\\x1b[31m-\\udcff.toml" in done.out
    assert all(sign.isprintable() or sign == "\n" for sign in done.out)


def test_the_example_is_right():
    """As it is shipped, without a warning."""
    done = check(ROOT / "config.example.toml")
    assert done.code == 0
    assert "warning" not in done.out


@pytest.mark.parametrize(
    ("zone", "said"),
    [("Asia/Kolkata", "UTC+5:30"), ("America/St_Johns", "UTC-3:30"), ("Australia/Lord_Howe", "UTC+10:30")],
)
def test_where_local_hours_begin_at_half_past_it_warns(config: Path, zone: str, said: str):
    """Our hours are UTC's; nobody could confirm EnerKey's for such zones. No mistake, and no warning elsewhere."""
    config.write_text(GOOD)
    done = command("check", "-c", config, TZ=zone)
    assert (done.code, done.err) == (0, "")
    assert f"warning: this machine: time zone: local time is {said}:" in done.out
    assert command("check", "-c", config, TZ="Europe/Helsinki").out == f"{config}: ok: 1 meter on 1 connection\n"


def test_connections_that_the_unit_has_no_threads_for_are_warned_of(config: Path):
    """With the sentence and the remedy at 80 columns; it is no mistake."""
    meters = [f'[connections.c{each}]\ndriver = "mqtt"\nurl = "mqtt://192.0.2.1:1{each:03}"\n' for each in range(220)]
    for each in range(220):
        source = f'{{ connection = "c{each}", topic = "t", value = "v", unit = "kWh" }}'
        meters.append(f'[[meters]]\nname = "m{each}"\npush = "off"\nunit = "kWh"\nmax_rate = 9\nsource = {source}\n')
    config.write_text("".join(meters))
    done = check(config)
    assert done.code == 0
    assert "TasksMax=640" in done.out
    said = json.loads(check(config, "--json").out)["warnings"]
    assert [warning["path"] for warning in said] == ["connections"]
