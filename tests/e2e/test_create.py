# SPDX-License-Identifier: Apache-2.0
"""pxarfs create: what becomes of its output files, and its exit status."""

import os
import resource
import signal
import subprocess

import pytest


@pytest.fixture
def tree(folder):
    path = folder / "tree"
    path.mkdir()
    (path / "a").write_text("text")
    folder.chmod(0o755)
    return path


def test_existing_output_is_refused_and_kept(pxarfs, folder, tree):
    (folder / "old").write_text("precious")
    for args in (["old", tree], ["new", tree, "--payload-output", "old"]):
        done = pxarfs("create", *args, status=1, cwd=folder)
        assert "old: File exists" in done.stderr
        assert (folder / "old").read_text() == "precious"
        assert not (folder / "new").exists()


def test_standard_output_gets_the_same_bytes(pxarfs, folder, tree):
    pxarfs("create", folder / "a.pxar", tree)
    done = pxarfs("create", "-", tree, text=False)
    assert done.stdout == (folder / "a.pxar").read_bytes()
    pxarfs("create", folder / "a.mpxar", tree, "--payload-output", folder / "a.ppxar")
    done = pxarfs("create", folder / "b.mpxar", tree, "--payload-output", "-", text=False)
    assert done.stdout == (folder / "a.ppxar").read_bytes()
    assert (folder / "b.mpxar").read_bytes() == (folder / "a.mpxar").read_bytes()
    pxarfs("create", "-", tree, "--payload-output", "-", status=2)


def test_failure_leaves_no_output(pxarfs, folder, tree):
    done = pxarfs("create", folder / "a.mpxar", "/proc", "--payload-output",
                  folder / "a.ppxar", status=1)
    assert "/proc: is on a virtual file system" in done.stderr
    done = pxarfs("create", folder / "a.mpxar", tree, "--entries-max", 0, status=1)
    assert "--entries-max" in done.stderr
    assert os.listdir(folder) == ["tree"]


def test_full_disk_is_told_and_leaves_no_output(pxarfs, folder, tree):
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    (tree / "big").write_bytes(bytes(3 << 20))
    done = pxarfs("create", small / "a.pxar", tree, status=1)
    assert "a.pxar: No space left on device" in done.stderr
    assert not os.listdir(small)


@pytest.mark.parametrize("number, is_ignored", [(signal.SIGINT, False), (signal.SIGHUP, False),
                                                (signal.SIGHUP, True)])
def test_a_signal_that_is_not_ignored_leaves_no_output(pxarfs, folder, tree, number, is_ignored):
    with open(tree / "big", "wb") as f:
        f.truncate(64 << 20)
    read, write = os.pipe()
    process = pxarfs.start("create", folder / "a.mpxar", tree, "--payload-output", "-",
                           stdout=write, stderr=subprocess.PIPE,
                           preexec_fn=lambda: is_ignored and signal.signal(number, signal.SIG_IGN))
    os.close(write)
    os.read(read, 1)
    process.send_signal(number)
    while os.read(read, 1 << 20):
        pass
    os.close(read)
    assert process.wait(10) == (0 if is_ignored else 1)
    process.stderr.close()
    assert (folder / "a.mpxar").exists() == is_ignored


def test_reader_that_leaves_is_an_error(pxarfs, folder, tree):
    (tree / "big").write_bytes(bytes(3 << 20))
    read, write = os.pipe()
    process = pxarfs.start("create", folder / "a.mpxar", tree, "--payload-output", "-",
                           stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    assert process.wait(10) == 1
    assert b"Broken pipe" in process.stderr.read()
    process.stderr.close()
    assert not (folder / "a.mpxar").exists()


def test_unreadable_files_give_status_3(pxarfs, folder, tree):
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0)
    out = folder / "out"
    out.mkdir()
    os.chown(out, 65534, 65534)
    done = pxarfs("create", out / "a.pxar", tree, status=3, user=65534, group=65534)
    assert "tree/secret: left out: open: Permission denied" in done.stderr
    assert (out / "a.pxar").exists()


def test_what_is_logged_on_a_closed_standard_error_is_not_written_into_the_archive(pxarfs, folder,
                                                                                   tree):
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0)
    out = folder / "out"
    out.mkdir()
    os.chown(out, 65534, 65534)
    for name, closed in (("a.pxar", ""), ("b.pxar", "2>&-")):
        subprocess.run(["sh", "-c", f'"$@" {closed}; [ $? = 3 ]', "sh", pxarfs.program, "create",
                        out / name, tree], check=True, user=65534, group=65534)
    assert (out / "a.pxar").read_bytes() == (out / "b.pxar").read_bytes()
    subprocess.run(["sh", "-c", '"$@" >&-; [ $? = 1 ]', "sh", pxarfs.program, "create", "-", tree],
                   check=True)


def test_source_may_not_be_a_symlink(pxarfs, folder, tree):
    (folder / "link").symlink_to("tree")
    pxarfs("create", folder / "a.pxar", folder / "link", status=1)


def test_options_that_contradict_are_refused(pxarfs, folder, tree):
    pxarfs("create", folder / "a.pxar", tree, "--all-file-systems", "--include-dev", "/",
           status=2)
    assert os.listdir(folder) == ["tree"]


def test_a_limit_of_file_sizes_is_told_and_leaves_no_output(pxarfs, folder, tree):
    (tree / "large").write_bytes(bytes(3 << 20))
    done = pxarfs("create", folder / "a.pxar", tree, status=1, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    assert "a.pxar: File too large" in done.stderr
    assert os.listdir(folder) == ["tree"]
