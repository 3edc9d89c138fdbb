# SPDX-License-Identifier: Apache-2.0
"""Every recorded list of patterns leaves out what the official tool left out."""

import json

import pytest

from conftest import GOLDEN


def load(name):
    with open(GOLDEN / name, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


PATTERNS = load("patterns.jsonl")
TREE, PATTERNS = PATTERNS[0]["tree"], PATTERNS[1:]
FILES = load("pxarexclude.jsonl")

# Rows where the official tool has a bug that is not copied (archive/FORMAT.md, "Patterns"):
# an anchored line of a .pxarexclude below the root never matches there.
NOT_COPIED = {json.dumps({"d1": "/a.txt\n"}): ["/d1/a.txt"]}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("patterns") / "tree"
    folders = {path.rsplit("/", 1)[0] for path in TREE}
    for path in sorted(TREE):
        here = root / path.lstrip("/")
        if path == "/" or path in folders:
            here.mkdir()
        elif path == "/link":
            here.symlink_to("a.txt")
        elif path == "/dlink":
            here.symlink_to("d1")
        else:
            here.write_text(path)
    return root


def archived(pxarfs, folder, tree, *args):
    archive = folder / "a.pxar"
    archive.unlink(missing_ok=True)
    pxarfs("create", archive, tree, *args)
    listed = json.loads(pxarfs("list", archive, "--output-format", "json").stdout)
    return {"/" + row["path"].strip("/") for row in listed} - {"/", "/.pxarexclude-cli"}


def test_exclude_options(pxarfs, folder, tree):
    everything = set(TREE) - {"/"}
    assert archived(pxarfs, folder, tree) == everything
    for row in PATTERNS:
        args = [f"--exclude={pattern}" for pattern in row["exclude"]]
        left_out = everything - archived(pxarfs, folder, tree, *args)
        assert sorted(left_out) == sorted(row["left_out"]), row["exclude"]


def test_pxarexclude_files(pxarfs, folder, tree):
    for row in FILES:
        written = []
        for where, text in row["files"].items():
            file = tree / where / ".pxarexclude"
            file.write_bytes(text.encode())
            written.append(file)
        everything = (set(TREE) - {"/"}) | {"/" + str(f.relative_to(tree)) for f in written}
        left_out = everything - archived(pxarfs, folder, tree)
        for file in written:
            file.unlink()
        want = NOT_COPIED.get(json.dumps(row["files"]), row["left_out"])
        assert sorted(left_out) == sorted(want), row["files"]


@pytest.mark.parametrize("pattern", ["", "[", "a[b", "[a-]", "[[:nope:]]x", "trailing\\"])
def test_pattern_that_does_not_parse_is_refused(pxarfs, folder, tree, pattern):
    done = pxarfs("create", folder / "x.pxar", tree, "--exclude", pattern, status=None)
    assert done.returncode in (1, 2)
    assert pattern in done.stderr
    assert not (folder / "x.pxar").exists()
