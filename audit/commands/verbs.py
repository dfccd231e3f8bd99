"""A table of verbs, each of which costs its imports only where it is asked for.

The web server, FHIR's types and the models' runtime take most of a second to import, and nearly no verb needs them all; a
verb that is typed by hand, or by a probe every minute, shouldn't wait for what others need. So a verb stands in a table with
its name, the line that helps to choose it, and where the function is that adds its arguments: that module is imported when
the verb's own parser is used, and no other. Python before 3.15 has no lazy imports of its own.

A new verb is a line in the table of its command, and a function that takes the parser.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import Any

from audit.commands.running import Subparsers


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb; `fill` is "module:function", as in an entry point, and the function adds the verb's arguments to its parser."""

    name: str
    help: str
    fill: str


class VerbParser(argparse.ArgumentParser):
    """A parser that gets its arguments when it is first used."""

    fill: Callable[[VerbParser], None] | None = None

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """As the parent's; help and usage come from here too, so they show every argument."""
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self)
        return super().parse_known_args(args, namespace)


def add_verbs(parser: argparse.ArgumentParser, dest: str, verbs: Iterable[Verb], *given: Any) -> Subparsers:
    """The subparsers of `parser` with these verbs in them, whose functions get `given` beside their parser."""
    subparsers = parser.add_subparsers(dest=dest, required=True, metavar="VERB", parser_class=VerbParser)
    more_verbs(subparsers, verbs, *given)
    return subparsers


def more_verbs(subparsers: Subparsers, verbs: Iterable[Verb], *given: Any) -> None:
    """Adds verbs to what `add_verbs` gave."""
    for verb in verbs:
        subparsers.add_parser(verb.name, help=verb.help).fill = partial(_fill, verb.fill, given)


def _fill(place: str, given: tuple[Any, ...], parser: VerbParser) -> None:
    resolve_name(place)(parser, *given)
