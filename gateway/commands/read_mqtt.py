"""`read mqtt://…`: what a broker has, without a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError

if TYPE_CHECKING:
    import argparse

FLAGS = ("--topic",)


def configure(group: Any) -> None:  # noqa: ANN401 - argparse's group has no public name
    """What to subscribe to."""
    group.add_argument("--topic", metavar="TOPIC", help="what to subscribe to; + and # as in MQTT")


def run(args: argparse.Namespace) -> int:
    """0 when something was heard, else 1."""
    raise GatewayError(f"{args.url}: brokers are not read yet")
