"""What SECURITY.md says of the code, held against the code."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = [
    file
    for part in ("gateway", "buffer", "drivers")
    for file in (ROOT / part).rglob("*.py")
    if "simulator" not in file.parts
]
WRITES = {
    "write_coil", "write_coils", "write_register", "write_registers", "mask_write_register", "readwrite_registers",
    "write_file_record", "WriteSingleRegisterRequest", "WriteMultipleRegistersRequest",
}  # fmt: skip


def names(file: Path) -> set[str]:
    """Every name and attribute that a module uses."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.name)
    return found


def test_the_product_is_looked_at():
    """The list of modules is not empty by mistake."""
    assert {"bus.py", "client.py", "store.py"} <= {file.name for file in PRODUCT}


def test_no_meter_is_ever_written_to():
    """There is no Modbus write function in the code outside the simulated meters."""
    assert {file.name: names(file) & WRITES for file in PRODUCT if names(file) & WRITES} == {}


def test_certificates_are_always_checked():
    """Nothing switches verification off: neither a context without it, nor httpx's or paho's own switch."""
    for file in PRODUCT:
        text = file.read_text()
        for switch in ("CERT_NONE", "verify=False", "tls_insecure_set", "_create_unverified_context"):
            assert switch not in text, file
        assert "check_hostname = False" not in text, file


def test_the_gateway_listens_on_no_network_port():
    """Its only listening socket is a Unix socket."""
    listening = [file.relative_to(ROOT).as_posix() for file in PRODUCT if {"listen", "create_server"} & names(file)]
    assert listening == ["gateway/control.py"]
    assert "AF_INET" not in (ROOT / "gateway/control.py").read_text()
