# SPDX-License-Identifier: Apache-2.0
"""--help, the manual pages and what the program takes agree."""

import re
import subprocess

import pytest

from conftest import TOP

PAGE = TOP / "client/cmd/pxarfs.1"


def table(text):
    block = text.split("Commands:\n", 1)[1].split("\n\n", 1)[0]
    return [re.split(r"  +", line.strip())[0] for line in block.splitlines()]


def commands(pxarfs):
    """Every command, families spelled out: ["init", ..., "key create", ...]."""
    out = []
    for name in table(pxarfs("--help").stdout):
        text = pxarfs(name, "--help").stdout
        out += table(text) if "\nCommands:\n" in text else [name]
    return out


def options(text):
    return set(re.findall(r"--([a-z][a-z0-9-]+)", text))


def test_there_are_commands(pxarfs):
    assert {"init", "backup", "snapshots", "files", "mount", "ls", "create", "list"} <= set(
        commands(pxarfs))


def test_every_command_has_help_and_refuses_what_it_does_not_know(pxarfs):
    for name in commands(pxarfs):
        done = pxarfs(*name.split(), "--help")
        assert done.stdout.startswith(f"Usage: pxarfs {name}"), name
        assert done.stderr == ""
        done = pxarfs(*name.split(), "--no-such-option", status=2)
        assert "--no-such-option" in done.stderr and f"pxarfs {name} --help" in done.stderr


def test_manual_page_has_every_option_of_every_command(pxarfs):
    page = PAGE.read_text()
    flags = {f.replace("\\-", "-") for f in re.findall(r"\.(?:It )?(?:.*)?Fl Fl? ?-?([a-z][a-z0-9\\-]+)",
                                                       page)}
    documented = {f.lstrip("-") for f in flags} | options(page.replace("\\-", "-"))
    documented |= set(re.findall(r"Fl -([a-z][a-z0-9-]+)", page))
    wanted = set()
    for name in commands(pxarfs):
        wanted |= options(pxarfs(*name.split(), "--help").stdout.split("\nOptions:\n", 1)[1])
    # --help texts also mention options of other commands; all must be in the page
    assert wanted - documented == set()


@pytest.mark.parametrize("args", [[], ["no-such-command"], ["-x"]])
def test_bad_usage_is_status_2(pxarfs, args):
    done = pxarfs(*args, status=2)
    assert done.stderr and not done.stdout


def test_a_full_standard_output_is_an_error(pxarfs):
    with open("/dev/full", "w") as full:
        p = subprocess.run([pxarfs.program, "--help"], stdout=full, stderr=subprocess.PIPE)
    assert p.returncode == 1 and b"No space left" in p.stderr
