# SPDX-License-Identifier: Apache-2.0
"""Bad usage: words that cannot be right, whatever there is, are told apart by exit status 2, before
anything is opened or asked."""

import pytest

SNAPSHOT = "host/a/2027-01-15T08:00:02Z"
POINT = "/var/tmp"

# The commands that need a repository, each with arguments that could be right.
COMMANDS = [
    ["backup", "x.conf:/etc/passwd"],
    ["snapshots"],
    ["files", SNAPSHOT],
    ["forget", SNAPSHOT],
    ["notes", "show", SNAPSHOT],
    ["notes", "set", SNAPSHOT, "text"],
    ["notes", "clear", SNAPSHOT],
    ["protect", "show", SNAPSHOT],
    ["protect", "set", SNAPSHOT],
    ["protect", "clear", SNAPSHOT],
    ["upload-log", SNAPSHOT, "/etc/passwd"],
    ["namespaces"],
    ["namespaces", "list"],
    ["namespaces", "create", "a"],
    ["namespaces", "delete", "a"],
    ["status"],
    ["ls", SNAPSHOT, "root.pxar"],
    ["mount", POINT],
    ["mount", SNAPSHOT, POINT],
    ["mount", SNAPSHOT, "root.pxar", POINT],
]
WITH_NS = [c for c in COMMANDS if c[0] not in ("namespaces", "status")]
WITH_SNAPSHOT = [c for c in COMMANDS if SNAPSHOT in c and c != ["mount", SNAPSHOT, POINT]]

REPOSITORIES = ["bad!!:x", "x", "a/b", "host:st/ore", "dir:", "", "u@pbs@:store", "h:99999:store",
                "[::g]:store", "@host:store", "https://host:store1", "a" * 300]
SNAPSHOTS = ["host", "host/", "hosts/a", "host/a b", "host/../b", "host/a/", "host/a/2027", SNAPSHOT + "/",
             "host/a/2027-02-30T08:00:02Z", "host/a/LATEST", "", "host/a\n"]
NAMESPACES = ["/", "a//b", "a/", "../a", "a/b/c/d/e/f/g/h", "a b", "x" * 257]
GROUPS = ["host", "host/", "hosts/a", "host/a b", SNAPSHOT, "host/a/latest", "/a", ""]
ARCHIVES = ["root", "", ".pxar", "a/b.pxar", "../a.pxar", "root.img", "index.json", "x" * 300 + ".pxar"]


def each(commands):
    """Under the sanitizers the first is enough: all have their words from the same parsers."""
    return [commands[0], *(pytest.param(c, marks=pytest.mark.slow) for c in commands[1:])]


def name(command):
    return " ".join(command[:2 if command[0] in ("notes", "protect", "namespaces") else 1])


def refuse(pxarfs, *args):
    done = pxarfs(*args, status=2)
    assert done.stderr.startswith("pxarfs ") and "\nTry 'pxarfs " in done.stderr, done.stderr
    assert not done.stdout


@pytest.mark.parametrize("command", each(COMMANDS), ids=name)
def test_a_repository_that_cannot_be_one(pxarfs, command):
    for repository in REPOSITORIES:
        refuse(pxarfs, *command, "-r", repository)
        if repository:
            pxarfs.env["PXARFS_REPOSITORY"] = repository
            refuse(pxarfs, *command)
            del pxarfs.env["PXARFS_REPOSITORY"]
    refuse(pxarfs, *command)  # none at all


# The repository is not there: nobody has asked for it.
@pytest.mark.parametrize("command", each(WITH_NS), ids=name)
def test_a_namespace_that_cannot_be_one(pxarfs, folder, command):
    for ns in NAMESPACES:
        refuse(pxarfs, *command, "-r", folder / "none", "--ns", ns)


@pytest.mark.parametrize("command", each(WITH_SNAPSHOT), ids=name)
def test_a_snapshot_that_cannot_be_one(pxarfs, folder, command):
    for snapshot in SNAPSHOTS + ["host/a", "host/a/latest"] * (command[0] == "forget"):
        refuse(pxarfs, *[snapshot if word == SNAPSHOT else word for word in command],
               "-r", folder / "none")


@pytest.mark.parametrize("command", [["backup", "x.conf:/etc/passwd", "--notes"],
                                     ["notes", "set", SNAPSHOT]], ids=name)
def test_notes_that_cannot_be_any(pxarfs, folder, command):
    """Before a long backup fails for want of a manifest."""
    refuse(pxarfs, *command, "caf\udce9", "-r", folder / "none")


@pytest.mark.parametrize("command", [["snapshots"], ["forget", "--group"],
                                     ["notes", "show", "--group"], ["notes", "clear", "--group"]],
                         ids=" ".join)
def test_a_group_that_cannot_be_one(pxarfs, folder, command):
    for group in GROUPS:
        refuse(pxarfs, *command, group, "-r", folder / "none")


def test_other_words(pxarfs, folder):
    for ns in NAMESPACES:
        for command in ("list", "create", "delete"):
            refuse(pxarfs, "namespaces", command, ns, "-r", folder / "none")
    for archive in ARCHIVES:
        refuse(pxarfs, "ls", SNAPSHOT, archive, "-r", folder / "none")
        refuse(pxarfs, "mount", SNAPSHOT, archive, POINT, "-r", folder / "none")
    for source in ("/srv/store::host/a b", "::host/a", "/srv/store::ns/", "bad!!:x::host/a"):
        refuse(pxarfs, "mount", source, POINT)
    for option in ("--backup-id=a b", "--backup-type=hosts", "--output-format=xml", "--dry-run=maybe"):
        refuse(pxarfs, "backup", "x.conf:/etc/passwd", "-r", folder / "none", option)
    refuse(pxarfs, "backup", "x.conf:/etc/passwd", "-r", folder / "none", "--no-cache")
    refuse(pxarfs, "backup", "x.conf:/etc/passwd", "-r", "server:store", "--backup-id=benchmark")


def test_one_bad_word_keeps_all_from_being_forgotten(pxarfs, store):
    good = pxarfs("snapshots", "-r", store, "host/split").stdout.split()[0]
    refuse(pxarfs, "forget", "-r", store, good, "host/odd")
    assert good in pxarfs("snapshots", "-r", store).stdout
