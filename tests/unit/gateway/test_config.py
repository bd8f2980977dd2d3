"""The whole configuration: every mistake at once, none twice, and no secret anywhere."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.config import Config, ConfigFaults, load
from gateway.faults import listing

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
CANARY = "canary-3f9a"
MAIN = '[connections.main]\ndriver = "modbus"\nurl = "tcp://192.0.2.1"\n'
HALL = '[connections.hall]\ndriver = "mqtt"\nurl = "mqtt://192.0.2.2"\n'
SOURCE = 'connection = "main", device = 1, register = 0, type = "u32", unit = "kWh"'


def meter(name: str = "heat", *lines: str, source: str = SOURCE, push: str = "off") -> str:
    """A meter with further lines."""
    more = "".join(f"{line}\n" for line in lines)
    return f'[[meters]]\nname = "{name}"\npush = "{push}"\nunit = "kWh"\n{more}source = {{ {source} }}\n'


def loaded(tmp_path: Path, text: str | bytes) -> Config:
    """The configuration in this text."""
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path)


def said(tmp_path: Path, text: str | bytes) -> list[str]:
    """Its mistakes, without the directory."""
    with pytest.raises(ConfigFaults) as caught:
        loaded(tmp_path, text)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def test_the_example_has_neither_mistakes_nor_warnings():
    """It is what operators copy."""
    config = load(EXAMPLE)
    assert config.warnings == ()
    assert len(config.meters) == 5


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_from_windows_is_read(tmp_path: Path, before: bytes, end: str):
    """With its byte order mark and line ends, and lines are counted right."""
    assert loaded(tmp_path, before + (MAIN + meter()).replace("\n", end).encode()).meters[0].name == "heat"
    wrong = before + (MAIN + meter("he at")).replace("\n", end).encode()
    assert said(tmp_path, wrong)[0].startswith("config.toml:5: meters[0].name: must be up to 64 letters")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("27 requests answered", "3:4: must be written as name = value"),
        ("= 5", "3:1: is neither name = value nor a [section]"),
    ],
)
def test_a_line_that_is_nothing_is_told_how_lines_are_written(tmp_path: Path, line: str, words: str):
    """The sentence itself holds no secret, and nothing in it is hidden as one."""
    assert said(tmp_path, f'[gateway]\nname = "x"\n{line}\n{MAIN}{meter()}') == [f"config.toml:{words}"]


def test_one_cause_is_one_mistake(tmp_path: Path):
    """A misspelt driver, connection or table does not make everything that hangs on it wrong."""
    assert said(tmp_path, MAIN.replace("modbus", "modbuss") + meter()) == [
        'config.toml:2: connections.main.driver: unknown driver "modbuss"; there are: modbus, mqtt; did you mean "modbus"?'
    ]
    assert said(tmp_path, MAIN.replace("connections", "conections") + meter()) == [
        'config.toml:1: conections: unknown key; did you mean "connections"?'
    ]
    assert said(tmp_path, MAIN + meter(source=SOURCE.replace('"main"', '"mian"'))) == [
        'config.toml:8: meters.heat.source.connection: unknown connection "mian"; there are: main; did you mean "main"?'
    ]
    assert said(tmp_path, MAIN.replace('"tcp', '"tcq') + meter())[0].startswith(
        'config.toml:3: connections.main.url: must look like "tcp://192.0.2.10:502"'
    )


def test_what_several_tables_say_of_each_other_is_checked(tmp_path: Path):
    """Names, EnerKey meters, buses, keys."""
    two = meter("heat", "enerkey_id = 7") + meter("cold", "enerkey_id = 7") + meter("heat")
    assert said(tmp_path, MAIN + MAIN.replace("main", "other") + two) == [
        "config.toml:6: connections.other.url: 192.0.2.1:502 belongs to [connections.main] already: put all its meters there",
        (
            "config.toml:17: meters.cold.enerkey_id: is there twice: meters.heat (line 7) has it already; give each meter its "
            "own, their hours would add up in EnerKey"
        ),
        (
            "config.toml:20: meters.heat.name: is there twice: meters.heat (line 7) has it already; give each meter its own, its "
            "history hangs on it"
        ),
    ]


def test_a_meter_that_pushes_needs_an_id_and_a_key(tmp_path: Path):
    """And one that does not, neither."""
    pushing = MAIN + meter(push="consumption")
    assert said(tmp_path, pushing) == [
        'config.toml: enerkey: missing: meter "heat" pushes; write [enerkey] with api_keys, or push = "off"',
        'config.toml:4: meters.heat.enerkey_id: missing: a meter that pushes needs it; or write push = "off"',
    ]
    assert said(tmp_path, f"{MAIN}[enerkey]\nmax_days = 7\n{meter('a', 'enerkey_id = 1', push='cumulative')}") == [
        'config.toml:4: enerkey.api_keys: missing: meter "a" pushes; write a list of one or two keys, for example ["credential:enerkey-1"]'
    ]
    assert loaded(tmp_path, MAIN + meter()).enerkey is None


def test_keys_that_exclude_each_other_are_named(tmp_path: Path):
    """A profile knows the register already."""
    source = SOURCE + ', profile = "eastron-sdm630", point = "energy_import_total"'
    assert said(tmp_path, MAIN + meter(source=source)) == [
        "config.toml:8: meters.heat.source.register: comes from the profile: leave it out, or leave out profile and point",
        "config.toml:8: meters.heat.source.type: comes from the profile: leave it out, or leave out profile and point",
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            'profile = "eastron-sdm63", point = "energy_import_total"',
            (
                'profile: unknown profile "eastron-sdm63"; there are: eastron-sdm630, eastron-sdm230, eastron-sdm54, '
                "eastron-sdm230-2t, eastron-sdm120, eastron-sdm72d-m, abb-b21, abb-b23, acrel-adw300, algodue-upm, "
                'aquametro-calec-st, artemes-am2 and 62 more (docs/meters.md); did you mean "eastron-sdm630"?'
            ),
        ),
        (
            'profile = "kamstrup-multical-403", point = "volume_totl"',
            (
                'point: unknown point "volume_totl"; there are: heat_energy_total, heat_energy_a1, volume_total, '
                "heat_power, mass_total; "
                'did you mean "volume_total"?'
            ),
        ),
    ],
)
def test_an_unknown_profile_or_point_names_the_nearest(tmp_path: Path, source: str, words: str):
    """And what there is: the nearest first where there are many."""
    text = MAIN + meter(source=f'connection = "main", device = 1, {source}')
    assert said(tmp_path, text) == [f"config.toml:8: meters.heat.source.{words}"]


def test_without_a_meter_there_is_nothing_to_do(tmp_path: Path):
    """An empty file, and one without meters."""
    nothing = ["config.toml: meters: missing: write a [[meters]] for each meter, or meters_file"]
    assert said(tmp_path, "") == nothing
    assert said(tmp_path, MAIN) == nothing
    assert said(tmp_path, "meters = []\n")[0].endswith("missing: write a [[meters]] for each meter, or meters_file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('meters = "x"\n', 'config.toml:1: meters: must be written with two brackets: [[meters]], not "x"'),
        ('[meters]\nname = "x"\n', "config.toml:1: meters: must be written with two brackets: [[meters]]"),
        (f'[connections]\nurl = "tcp://h"\n{meter()}',
         "config.toml:1: connections: must have a name for each connection: [connections.NAME]"),
        (f"gateway = 5\n{MAIN}{meter()}", "config.toml:1: gateway: must be a table: [gateway], not 5"),
        (f"[connections]\nmain = 5\n{meter()}",
         "config.toml:2: connections.main: must be a table: [connections.NAME], not 5"),
        (f'{MAIN}{meter(source="")}',
         "config.toml:8: meters.heat.source.connection: missing: write the name of a connection; there are: main"),
        (f'[connections."a b"]\ndriver = "modbus"\nurl = "tcp://h"\n{meter(source=SOURCE.replace("main", "a b"))}',
         ('config.toml:1: connections.a b: is no name for a connection: it must be up to 64 letters, digits and "-", "_", '
         '".", beginning with a letter or digit')),
    ],
)  # fmt: skip
def test_a_table_of_another_shape_is_told_its_shape(tmp_path: Path, text: str, words: str):
    """The slips that TOML invites."""
    assert said(tmp_path, text)[0] == words


def test_literal_secrets_are_warned_about_also_beside_mistakes(tmp_path: Path):
    """They work, and stand in every backup."""
    text = (
        f'[enerkey]\napi_keys = ["{CANARY}", "env:KEY"]\n{MAIN}{HALL}username = "u"\npassword = "{CANARY}"\n'
        + meter("a", "max_rate = 5")
    )
    words = [
        (
            'config.toml:2: enerkey.api_keys[0]: the key stands in this file; better keep it elsewhere: "credential:NAME", '
            '"env:NAME" or "file:/PATH"'
        ),
        (
            "config.toml:10: connections.hall.password: the password stands in this file; better keep it elsewhere: "
            '"credential:NAME", "env:NAME" or "file:/PATH"'
        ),
    ]
    assert [str(each).replace(f"{tmp_path}/", "") for each in loaded(tmp_path, text).warnings] == words
    with pytest.raises(ConfigFaults) as caught:
        loaded(tmp_path, text.replace('"kWh"', '"kwh"'))
    assert [str(each).replace(f"{tmp_path}/", "") for each in caught.value.warnings][:2] == words
    assert CANARY not in repr(caught.value.warnings)


def test_a_counter_without_a_rate_is_warned_about(tmp_path: Path):
    """Nothing would then be too fast to be believed (R9)."""
    (warning,) = loaded(tmp_path, MAIN + meter()).warnings
    assert warning.path == "meters.heat.max_rate"


def test_settings_of_a_line_that_do_not_fit_each_other_are_warned_about_where_they_stand(tmp_path: Path):
    """A device's own by its meter; nothing is said before the mistakes are mended."""
    main = MAIN.replace("tcp://192.0.2.1", "rtu:///dev/ttyUSB0") + 'timeout = "100ms"\n'
    own = meter("cold", "max_rate = 10", source=SOURCE.replace("device = 1", 'device = 2, timeout = "50ms"'))
    text = main + meter("heat", "max_rate = 10") + own
    assert [(each.path, each.line) for each in loaded(tmp_path, text).warnings] == [
        ("connections.main.timeout", 4),
        ("meters.cold.source.timeout", 16),
    ]
    with pytest.raises(ConfigFaults) as caught:
        loaded(tmp_path, text + "nonsense = 1\n")
    assert not caught.value.warnings


def test_an_experimental_profile_is_warned_about_once(tmp_path: Path):
    """At the first meter that has it, however many there are; another profile by itself."""

    def by(name: str, profile: str, device: int) -> str:
        source = f'connection = "main", device = {device}, profile = "{profile}", point = "energy_import_total"'
        return meter(name, "max_rate = 10", source=source)

    meters = (
        by("a", "eastron-sdm630", 1) + by("b", "garo-gnm3d", 2) + by("c", "iskra-wm3m4", 3) + by("d", "garo-gnm3d", 4)
    )
    first, second = loaded(tmp_path, MAIN + meters).warnings
    assert (first.path, second.path) == ("meters.b.source", "meters.c.source")
    assert first.message == (
        "garo-gnm3d is experimental: no two sources agree on its registers yet; compare what "
        '"meter-gateway read" shows with the meter\'s display before you push it (also 1 other meter)'
    )
    assert second.message.startswith("iskra-wm3m4 is experimental")
    assert not loaded(tmp_path, MAIN + by("a", "eastron-sdm630", 1)).warnings[1:]


def test_a_password_that_is_nearly_a_reference_is_a_mistake(tmp_path: Path):
    """Otherwise "credentials:broker" would be tried as the password, or end the check with a traceback."""
    text = f'{MAIN}{HALL}username = "u"\npassword = "credentials:broker"\n{meter()}'
    assert said(tmp_path, text) == ['config.toml:8: connections.hall.password: must begin with "credential:"']


def test_no_model_shows_a_secret(tmp_path: Path):
    """repr() is what ends in tracebacks and debug logs."""
    text = f'[enerkey]\napi_keys = ["{CANARY}"]\n{MAIN}{HALL}username = "u"\npassword = "{CANARY}"\n' + meter(
        "a", "max_rate = 5"
    )
    config = loaded(tmp_path, text)
    assert CANARY not in repr(config) + str(config) + repr(config.enerkey) + str(config.connections["hall"])
    assert config.enerkey is not None
    assert [key.key for key in config.enerkey.api_keys] == [CANARY]


def test_only_some_meters(tmp_path: Path):
    """`read METER` needs no others."""
    config = loaded(tmp_path, MAIN + meter("a") + meter("b"))
    assert [each.name for each in config.only(["b"]).meters] == ["b"]


SECRETS = f'''\
[enerkey]
url = "https://api.enerkey.com"
api_keys = [
  "{CANARY}-c2VjcmV0==",
  '{CANARY}"x',
]
[enerkey.accounts.north]
api_keys = [{{ key = "{CANARY}-table", expires = "2027-01-31" }}, {{ key = '{CANARY}', expires = 2027-01-31 }}]
burst = "20/10s"
[connections.main]
driver = "mqtt"
url = "mqtt://h:1883"
username = "u"
password = "{CANARY}=="
[connections.alt]
driver = "mqtt"
url = "mqtt://h:1884"
username = "u"
password = """{CANARY}
"""
[connections]
third = {{ driver = "mqtt", url = "mqtt://h:1885", username = "u", password = "{CANARY}" }}
[[meters]]
name = "a"
push = "off"
unit = "kWh"
source = {{ connection = "main", topic = "x", unit = "kWh" }}
'''
SLIPS = [*"\"'=[]{},.#\n\\ :\x9b\u202e", '"""', "\n[", "\n[[", " = ", "@", "//"]


def test_no_slip_of_the_hand_brings_a_secret_to_the_screen(tmp_path: Path):
    """A thousand corrupted files: something left out, put in or put twice, wherever. No crash, no secret, one printable line each."""
    chance = random.Random(20260302)
    for _ in range(1000):
        text = SECRETS
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            at = chance.randrange(len(text))
            left_out = chance.choice([0, 0, 1, 1, 2, 5])
            text = text[:at] + chance.choice(["", *SLIPS]) + text[at + left_out :]
        try:
            config = loaded(tmp_path, text)
        except ConfigFaults as error:
            shown = str(error) + repr(error.faults) + repr(error.warnings)
        else:
            shown = repr(config) + listing(config.warnings)
        assert CANARY[1:] not in shown, text
        assert all(sign.isprintable() or sign == "\n" for sign in shown), text


ATTACKS = {
    "deep list": "a = " + "[" * 5000 + "]" * 5000,
    "deep header": "[connections." + "a." * 5000 + "a]\nb = 1\n",
    "long number": "[gateway]\nname = " + "9" * 5000 + "\n",
    "long hex number": MAIN + meter("a", "enerkey_id = 0x" + "F" * 5000),
    "null bytes": 'meters_file = "\\u0000.csv"\n[gateway]\ndata_dir = "/x\\u0000"\n' + MAIN,
    "escapes in keys": '"\\u001b[31mx" = 1\n["co\\u009bx"]\na = 1\n' + MAIN + meter(),
    "a table as driver": "[connections.a.driver]\nx = 1\n" + meter(),
    "lists of anything": 'meters = [1, "a", [], {}]\nconnections = []\n',
    "a million letters": MAIN + meter("x" * 1_000_000),
    "a deep expression": HALL + meter(source='connection = "hall", topic = "x", unit = "kWh", value = "' + "(" * 5000 + '"'),
    "a strange zone": HALL
    + meter(source='connection = "hall", topic = "x", unit = "kWh", value = "v", time = "t", tz = "../../etc/passwd"'),
    "an odd url": MAIN.replace("192.0.2.1", "[::1") + meter(),
}  # fmt: skip


@pytest.mark.timeout(90)
@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_hostile_files_are_mistakes_like_any_other(tmp_path: Path, text: str):
    """No crash, no endless search, and sentences that can be read."""
    assert all(len(words) < 500 for words in said(tmp_path, text))


@pytest.mark.parametrize("name", ["a/b", "a\\nb", "..", "-a", "", "ä", "x" * 65, "\\u001b[31mred", "a b", "a\\u202eb"])
def test_a_name_holds_nothing_that_a_path_or_terminal_would_obey(tmp_path: Path, name: str):
    """Names go into paths of MQTT, logs, and the screen."""
    (words,) = said(tmp_path, MAIN + meter(name))
    assert words.startswith("config.toml:5: meters[0].name: must be up to 64 letters, digits and ")
    assert words.isprintable()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"7"', 'must be a whole number without quotes, not "7"'),
        ("7.0", "must be a whole number, not 7.0"),
        ("-7", "must be at least 1, not -7"),
        ("0", "must be at least 1, not 0"),
        ("true", "must be a whole number, not true"),
        ("nan", "must be a whole number, not nan"),
        ("2026-01-01", "must be a whole number, not 2026-01-01"),
        ("9223372036854775808", "must be at most 9223372036854775807, not 9223372036854775808"),
    ],
)
def test_an_id_is_a_whole_number_above_zero(tmp_path: Path, value: str, words: str):
    """Whatever TOML offers instead."""
    assert said(tmp_path, MAIN + meter("a", f"enerkey_id = {value}")) == [
        f"config.toml:8: meters.a.enerkey_id: {words}"
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("inf", "must be a finite number, not inf"),
        ("nan", "must be a finite number, not nan"),
        ("1e400", "must be a finite number, not inf"),
        ('"1e400"', 'must be at most 9000000000000, not "1e400"'),
        ("0", "must be more than 0, not 0"),
        ("-1", "must be more than 0, not -1"),
        ('"0,5"', 'must be a number with a decimal point, such as "0.1", not "0,5"'),
        ("true", 'must be a number such as 0.1 or "0.1", not true'),
        ("2026-01-01", 'must be a number such as 0.1 or "0.1", not 2026-01-01'),
    ],
)
def test_a_rate_is_a_number_that_a_counter_can_hold(tmp_path: Path, value: str, words: str):
    """Whatever TOML offers instead."""
    assert said(tmp_path, MAIN + meter("a", f"max_rate = {value}")) == [f"config.toml:8: meters.a.max_rate: {words}"]


def test_a_null_in_a_value_is_not_taken_for_a_line_that_could_not_be_read(tmp_path: Path):
    """It was: the value was then passed over without a word."""
    assert said(tmp_path, f'[gateway]\nname = "\\u0000"\n{MAIN}{meter()}')[0].startswith(
        "config.toml:2: gateway.name: must"
    )


def test_a_certificate_file_that_is_not_there_is_a_mistake(tmp_path: Path):
    """On the way to EnerKey as on the way to a broker; found before the first request."""
    text = f'[enerkey]\nca_file = "{tmp_path}/no.pem"\n{MAIN}{meter()}'
    assert said(tmp_path, text) == ["config.toml:2: enerkey.ca_file: names a file that is not there: no.pem"]


def test_what_a_reference_must_begin_with_is_not_taken_for_a_secret(tmp_path: Path):
    """An empty "env:" is no reason to leave out what is allowed."""
    text = f'[enerkey]\napi_keys = ["ENV:A", "env:"]\n{MAIN}{meter()}'
    assert said(tmp_path, text) == [
        'config.toml:2: enerkey.api_keys[0]: must begin with "env:"',
        'config.toml:2: enerkey.api_keys[1]: needs letters, digits and _, not beginning with a digit after "env:"',
    ]


def test_an_empty_text_is_told_that_it_is_empty(tmp_path: Path):
    """Rather than how many characters it lacks."""
    assert said(tmp_path, f'{MAIN}{HALL}username = ""\n{meter()}') == [
        'config.toml:7: connections.hall.username: must not be empty, not ""'
    ]
