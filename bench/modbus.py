"""The whole Modbus bench: the serial half and the TCP half, as one JSON document. What they measure stands in each.

.venv/bin/python bench/modbus.py
"""

from __future__ import annotations

import argparse
import json

from bench import modbus_serial, modbus_tcp


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(json.dumps(modbus_serial.measure() | modbus_tcp.measure(), indent=2))


if __name__ == "__main__":
    main()
