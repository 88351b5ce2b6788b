"""The command line of the commands: an argparse parser read off their definitions."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from fiji_poreseg.commands.spec import Command, Parameter, Role, show


def add_commands(subparsers: Any, catalog: Mapping[str, Command[..., Any]]) -> None:
    """Add a subparser for each command.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` answered with.
    catalog
        The commands by name.
    """
    for command in catalog.values():
        parser = subparsers.add_parser(
            command.name.replace("_", "-"), help=command.summary, description=command.summary
        )
        parser.set_defaults(command=command)
        for parameter in command.parameters.values():
            _add(parser, parameter)
        parser.add_argument(
            "--as-macro",
            action="store_true",
            help="print the line of a macro that does the same, and do nothing else",
        )


def given(namespace: argparse.Namespace) -> dict[str, object]:
    """The command's arguments that stand on the command line, as text, by parameter name."""
    return {
        name: value
        for name, value in vars(namespace).items()
        if name in namespace.command.parameters and value is not None
    }


def command_line(command: Command[..., Any], raw: Mapping[str, object]) -> str:
    """Write the line of a shell that runs a command.

    Parameters
    ----------
    command
        The command.
    raw
        Values by parameter name; those that are None are left out.
    """
    words = ["fiji-poreseg", command.name.replace("_", "-")]
    for name, value in raw.items():
        parameter = command.parameters[name]
        if parameter.is_flag:
            words += [parameter.option] if value is True else []
        elif value is not None:
            shown = show(value)
            if parameter.positional:
                words.append(shown)
            elif shown.startswith("-"):
                # Else it may be taken for an option.
                words.append(f"{parameter.option}={shown}")
            else:
                words += [parameter.option, shown]
    return shlex.join(words)


def _add(parser: argparse.ArgumentParser, parameter: Parameter) -> None:
    help_text = _help(parameter)
    metavar = parameter.info.metavar or parameter.name.upper()
    insisted = parameter.required or parameter.info.required_on_command_line
    if parameter.positional:
        parser.add_argument(parameter.name, metavar=metavar, help=help_text)
    elif parameter.is_flag:
        parser.add_argument(
            parameter.option,
            dest=parameter.name,
            action="store_const",
            const="true",
            help=help_text,
        )
    else:
        parser.add_argument(
            parameter.option,
            dest=parameter.name,
            metavar=metavar,
            required=insisted,
            help=help_text,
        )


def _help(parameter: Parameter) -> str:
    """One line: what it is, the rule, the default."""
    parts = [parameter.info.help]
    if parameter.info.role is Role.VALUE and not parameter.is_flag:
        parts.append(parameter.rule)
        if not parameter.required and parameter.default not in (None, ()):
            parts.append(f"default {show(parameter.default)}")
    return "; ".join(parts).replace("%", "%%")
