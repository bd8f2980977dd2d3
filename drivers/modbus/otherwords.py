"""What other programs and manuals call things that an operator writes here: so that a mistake says what is right."""

from __future__ import annotations

_BITS = ("16", "32", "48", "64")
TYPES = {
    f"{name}{bits}": f"{short}{bits}" for bits in _BITS for name, short in (("int", "s"), ("uint", "u"), ("i", "s"))
}
TYPES |= {
    "float": "f32",
    "float32": "f32",
    "real": "f32",
    "float64": "f64",
    "double": "f64",
    "word": "u16",
    "dword": "u32",
}
TYPES |= {"int16u": "u16", "int32u": "u32", "int64u": "u64", "ulong": "u32", "short": "s16"}

BYTE_ORDERS = {"be": "big", "big-endian": "big", "big_endian": "big", "le": "little", "little-endian": "little"}
BYTE_ORDERS |= {"little_endian": "little", "swap": "little", "swapped": "little"}
WORD_ORDERS = BYTE_ORDERS | {
    "abcd": "big",
    "high": "big",
    "msw": "big",
    "cdab": "little",
    "low": "little",
    "lsw": "little",
}

_TABLE = 'write table = "holding" (function 3) or "input" (function 4)'
SOURCE_KEYS = dict.fromkeys(
    ("slave", "slave_id", "slaveid", "unit_id", "unitid", "device_id", "server", "id"), "device"
)
SOURCE_KEYS |= {"address": "register", "addr": "register", "start": "register", "reg": "register"}
SOURCE_KEYS |= {"data_type": "type", "datatype": "type", "format": "type", "encoding": "type"}
SOURCE_KEYS |= {"multiplier": "scale", "gain": "scale", "factor": "scale"}
SOURCE_KEYS |= {"uom": "unit", "unit_of_measurement": "unit", "swap": "word_order", "wordswap": "word_order"}
SOURCE_KEYS |= dict.fromkeys(("function", "function_code", "fc", "input_type", "register_type"), _TABLE)
SOURCE_KEYS |= dict.fromkeys(("count", "length", "size", "quantity"), "the type says how many registers there are")
SOURCE_KEYS |= {"endian": "write word_order and byte_order", "endianness": "write word_order and byte_order"}
SOURCE_KEYS |= dict.fromkeys(("url", "host", "port", "poll"), "it stands in [connections.NAME]")

_LINE = 'it stands in the url: "rtu:///dev/ttyUSB0?baudrate=9600&parity=N&stopbits=1"'
_NETWORK = 'it stands in the url: "tcp://192.0.2.10:502"'
CONNECTION_KEYS = dict.fromkeys(("baudrate", "baud", "parity", "stopbits", "bytesize", "databits", "serial"), _LINE)
CONNECTION_KEYS |= dict.fromkeys(("host", "hostname", "ip", "address", "port", "method", "type"), _NETWORK)
CONNECTION_KEYS |= {"interval": "poll", "scan_interval": "poll", "poll_interval": "poll", "echo": "local_echo"}
CONNECTION_KEYS |= {"delay": "gap", "message_wait": "gap", "device": _LINE, "uri": "url"}

PROFILE_KEYS = {"name": "model", "brand": "manufacturer", "vendor": "manufacturer", "registers": "points"}
PROFILE_KEYS |= {"limits": "its keys stand by themselves, above the first [section]", "units": "points"}
