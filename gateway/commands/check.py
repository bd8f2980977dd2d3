"""`check`: the whole configuration offline, every mistake at once."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from importlib.metadata import packages_distributions
from pathlib import Path

from gateway import terminal
from gateway.config import Config, ConfigFaults, load
from gateway.errors import OK, Misconfigured
from gateway.faults import Fault, counted
from gateway.locate import find_config

log = logging.getLogger(__name__)

DISTRIBUTION = "enerkey-meter-gateway"
PACKAGES = ("gateway", "drivers", "buffer")


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """0 when the service could start with it, 78 when a person must mend it first."""
    path = find_config(args.config)
    check_installation()
    try:
        config = load(path)
    except ConfigFaults as error:
        if args.json:
            terminal.document({"ok": False, "faults": [asdict(fault) for fault in error.faults], "warnings": []})
        else:
            terminal.show(str(error))
        return error.code
    if args.json:
        warnings = [asdict(warning) for warning in config.warnings]
        terminal.document(
            {"ok": True, "faults": [], "warnings": warnings, "meters": [each.name for each in config.meters]}
        )
    else:
        _show(path, config)
    return OK


def load_or_exit(path: Path) -> Config:
    """The configuration for a command that works with it; its warnings go to the log. Raises Misconfigured."""
    check_installation()
    config = load(path)
    for warning in config.warnings:
        log.warning("%s", warning)
    return config


def check_installation() -> None:
    """Our package names are plain words, and other distributions ship packages of the same names: they would be mixed up silently."""
    providers = packages_distributions()
    for package in PACKAGES:
        others = sorted(set(providers.get(package, ())) - {DISTRIBUTION})
        if others:
            raise Misconfigured(
                f'the package "{package}" in this Python environment is also brought by {", ".join(others)}: '
                f"install {DISTRIBUTION} into an environment of its own"
            )


def _show(path: Path, config: Config) -> None:
    for warning in config.warnings:
        terminal.show(_warning(warning))
    meters, connections = counted(len(config.meters), "meter"), counted(len(config.connections), "connection")
    warned = f", {counted(len(config.warnings), 'warning')}" if config.warnings else ""
    terminal.show(f"{path}: ok: {meters} on {connections}{warned}")


def _warning(warning: Fault) -> str:
    return f"{terminal.coloured('warning', 'warn')}: {warning}"
