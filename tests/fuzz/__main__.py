"""One target under atheris, until libFuzzer ends it: `python -m tests.fuzz TARGET CORPUS [LIBFUZZER-OPTION...]`.

With files behind the options it only tries those. Without arguments: the names of the targets. What a run begins with is laid
into an empty CORPUS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.modbus import Babbler

ROOT = Path(__file__).parents[2]
INSTRUMENTED = ["drivers", "gateway", "pymodbus", "jmespath", "tomllib"]
SAMPLES = "tests/mqtt_samples/*"
SEEDS = {  # what is laid before each of these files
    "value": (b"", ()),
    "answer": (b"\x06\xf0\0\0\0\x07\x01\x03\x04\x12\x34\x56\x78", ()),
    "driver": (b"\x60\xc0\0\xcb\0\x69\xc0\0\x01\0\x01", ()),
    "profile": (b"", ("drivers/profiles/*.toml",)),
    "message": (b"\0", (SAMPLES,)),
    "sparkplug": (b"\0\xff", ("tests/mqtt_samples/sparkplug*",)),
    "configuration": (b"", ("config.example.toml", "docs/*.toml")),
}


def main() -> None:
    """See the module."""
    if len(sys.argv) < 3:
        print(*SEEDS, sep="\n")
        return
    name, corpus = sys.argv[1], Path(sys.argv[2])
    os.chdir(ROOT)
    begin(corpus, *SEEDS[name])
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import configuration, modbus, mqtt  # noqa: F401 - `targets` has them instrumented
    with modbus.babbler() as other:
        called = targets(corpus.absolute().with_name(f"{name}-file.toml"), other)[name]
        again = any(not word.startswith("-") for word in sys.argv[3:])
        atheris.Setup([sys.argv[0], *sys.argv[3:], *([] if again else [str(corpus)])], called)
        atheris.Fuzz()


def targets(file: Path, other: Babbler) -> dict[str, Callable[[bytes], object]]:
    """What takes bytes; `file` is there to be written, `other` is the other end of a line."""
    from tests.fuzz import configuration, modbus, mqtt

    return {
        "value": modbus.value,
        "answer": lambda data: void(modbus.answer(data, other)),
        "driver": modbus.driver,
        "profile": partial(modbus.profile, path=file),
        "message": mqtt.message,
        "sparkplug": mqtt.sparkplug,
        "configuration": partial(configuration.configuration, path=file),
    }


def void(result: object) -> None:
    """For libFuzzer, which takes what a target returns for its verdict."""
    del result


def begin(corpus: Path, before: bytes, patterns: Iterable[str]) -> None:
    """Lay the seeds into a corpus that is empty."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    (corpus / "seed").write_bytes(before)
    for number, path in enumerate(path for pattern in patterns for path in sorted(ROOT.glob(pattern))):
        (corpus / f"seed{number}").write_bytes(before + path.read_bytes())


if __name__ == "__main__":
    main()
