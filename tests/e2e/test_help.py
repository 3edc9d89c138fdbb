# SPDX-License-Identifier: Apache-2.0
"""--help, the manual pages and what the program takes agree."""

import json
import re
import subprocess

import pytest

from conftest import TOP

PAGE = TOP / "client/cmd/pxarfs.1"
MOUNT_PAGE = TOP / "fuse/mount.pxarfs.8"
MOUNT_WORDS = TOP / "fuse/mount_opts.c"
COMMON = "Options of many commands"


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
    """The long options that a --help lists (not those its texts mention)."""
    return set(re.findall(r"^ {2,6}(?:-\w, )?--([a-z0-9-]+)", text.split("\nOptions:\n", 1)[1],
                          re.MULTILINE))


def sections(page):
    """{title of .Ss: its source}."""
    out = {}
    for block in re.split(r"^\.S[hs] ", page.read_text(), flags=re.MULTILINE)[1:]:
        title, _, body = block.partition("\n")
        out[title] = body
    return out


def items(body):
    """The long options that have an item of their own in mdoc source."""
    return {name for line in body.splitlines() if line.startswith(".It ")
            for name in re.findall(r"\bFl (?:\\)?-([a-z0-9-]+)", line)}


def rendered(page):
    return subprocess.run(["mandoc", "-T", "ascii", "-O", "width=500", page], check=True,
                          capture_output=True, text=True).stdout.replace("\b", "\0")


def plain(text):
    """Without the overstrikes that stand for bold and underlined."""
    return re.sub(".\0", "", text)


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


def test_manual_page_has_the_options_of_each_command_and_no_others(pxarfs):
    page = sections(PAGE)
    common = items(page[COMMON])
    for name in commands(pxarfs):
        wanted = options(pxarfs(*name.split(), "--help").stdout)
        documented = items(page[name])
        assert wanted - documented - common == set(), f"{name}: not in the page"
        assert documented - wanted == set(), f"{name}: not in the program"


def test_manual_page_and_help_have_the_same_usage(pxarfs):
    text = plain(rendered(PAGE)).split("\nSYNOPSIS\n", 1)[1].split("\nDESCRIPTION\n", 1)[0]
    page = {re.sub(r" +", " ", line.strip()) for line in text.splitlines() if line.strip()}
    program = {pxarfs(*name.split(), "--help").stdout.splitlines()[0].removeprefix("Usage: ")
               for name in commands(pxarfs)}
    assert page == program


def test_manual_page_has_every_command(pxarfs):
    assert set(commands(pxarfs)) <= set(sections(PAGE))


def test_manual_page_has_all_that_a_backup_says_in_json(pxarfs, folder):
    (folder / "tree").mkdir()
    (folder / "file").write_text("text")
    pxarfs("init", folder / "store")
    pxarfs("key", "create", "--kdf", "none", folder / "key")
    specs = ["a.pxar:tree", "b.img:file", "c.conf:file"]
    documented = set(re.findall(r"^\.Li ([a-z-]+)", sections(PAGE)["JSON OUTPUT"], re.MULTILINE))
    for i, mode in enumerate(["data", "legacy"], 1):
        said = json.loads(pxarfs("backup", *specs, "-r", folder / "store", "--backup-time", i,
                                 "--keyfile", folder / "key", "--change-detection-mode", mode,
                                 "--output-format", "json", cwd=folder).stdout)
        words = {*said, *said["reading"], *(word for row in said["files"] for word in row),
                 *(row["kind"] for row in said["files"])}
        assert words - documented == set()


def mount_words():
    """Words of the table in mount_opts.c that do something."""
    table = MOUNT_WORDS.read_text().split("static const struct word words[] = {", 1)[1]
    table = table.split("\n};", 1)[0]
    words = re.findall(r'^\t\{ "([a-z_]+)", WORD_[A-Z]+', table, re.MULTILINE)
    assert len(words) >= 12, "the table of mount options is not understood"
    return words


def test_mount_page_has_every_word_that_has_an_effect():
    body = sections(MOUNT_PAGE)["MOUNT OPTIONS"]
    documented = {word for line in body.splitlines() if line.startswith(".It ")
                  for word in re.findall(r"[a-z_]+", line)}
    assert set(mount_words()) - documented == set()


def test_mount_page_has_every_option(pxarfs):
    assert options(pxarfs("mount", "--help").stdout) == items(sections(MOUNT_PAGE)["DESCRIPTION"])


@pytest.mark.parametrize("args", [[], ["no-such-command"], ["-x"]])
def test_bad_usage_is_status_2(pxarfs, args):
    done = pxarfs(*args, status=2)
    assert done.stderr and not done.stdout


def test_a_full_standard_output_is_an_error(pxarfs):
    with open("/dev/full", "w") as full:
        p = subprocess.run([pxarfs.program, "--help"], stdout=full, stderr=subprocess.PIPE)
    assert p.returncode == 1 and b"No space left" in p.stderr


def test_help_of_a_command_is_what_the_command_says(pxarfs):
    for command in commands(pxarfs):
        words = command.split()
        assert pxarfs("help", *words).stdout == pxarfs(*words, "--help").stdout
    assert pxarfs("help").stdout == pxarfs("--help").stdout
    assert "unknown command 'bogus'\n" in pxarfs("help", "bogus", status=2).stderr
    assert "pxarfs mount" in pxarfs("restore", "host/a", "a.pxar", "/x", status=2).stderr
    assert "behind the command" in pxarfs("-r", "/srv/store", "snapshots", status=2).stderr
    assert "expected show, set, clear" in pxarfs("notes", "upgrade", "host/a", status=2).stderr


@pytest.mark.parametrize("theirs, ours", [
    ("snapshot list", "snapshots"), ("snapshot files", "files"), ("snapshot forget", "forget"),
    ("snapshot upload-log", "upload-log"), ("snapshot notes show", "notes show"),
    ("snapshot notes update", "notes set"), ("notes update", "notes set"),
    ("snapshot protected show", "protect show"), ("namespace list", "namespaces list"),
    ("namespace create", "namespaces create"), ("namespace delete", "namespaces delete")])
def test_the_official_clients_names_are_taken(pxarfs, theirs, ours):
    wanted = pxarfs(*ours.split(), "--help").stdout
    assert wanted.startswith(f"Usage: pxarfs {ours} ")
    assert pxarfs(*theirs.split(), "--help").stdout == wanted
    assert pxarfs("help", *theirs.split()).stdout == wanted


@pytest.mark.parametrize("theirs, hint", [
    ("snapshot protected update host/a true", "'protect set SNAPSHOT'"), ("snapshot", "'snapshots'"),
    ("snapshot what", "'snapshots'"), ("group forget host/a", "forget --group"),
    ("key show-master-pubkey", "openssl"), ("task list", "the server's"), ("snapshots list", "TYPE/ID"),
    ("unmap", "umount(8)")])
def test_others_are_told_how_it_is_done_here(pxarfs, theirs, hint):
    done = pxarfs(*theirs.split(), status=2)
    assert hint in done.stderr
