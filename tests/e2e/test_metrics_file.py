# SPDX-License-Identifier: Apache-2.0
"""-o metrics=: a text file for Prometheus, always whole, and its names are in the manual."""

import os
import re
import signal

from conftest import GOLDEN, TOP
from test_mount_life import wait_for

SPLIT = GOLDEN / "files" / "split.mpxar"
SAMPLE = re.compile(r'(pxarfs_\w+)\{mountpoint="((?:[^"\\\n]|\\["\\n])*)"(?:,(\w+="\w+"))?\} (\d+)')


def parse(path):
    """{(name, label): value}, holding the text to the format's rules."""
    out, points, family, kinds = {}, set(), None, {}
    for line in path.read_text().splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in kinds and len(line.split()) > 3
            kinds[family] = None
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == family and kind == ("counter" if name.endswith("_total") else "gauge")
            kinds[name] = kind
        else:
            name, point, label, value = SAMPLE.fullmatch(line).groups()
            assert name == family and (name, label) not in out
            out[name, label] = int(value)
            points.add(point)
    assert len(points) == 1 and path.read_text().endswith("\n")
    return out, points.pop()


def test_file_follows_the_mount(pxarfs, folder):
    path = folder / "pxarfs.prom"
    with pxarfs.mount(SPLIT, options=f"metrics={path}") as mount:
        before, point = parse(path)
        assert point == str(mount.path)
        assert before["pxarfs_up", None] == 1 and before["pxarfs_read_bytes_total", None] == 0
        size = 0
        for at, _, files in os.walk(mount.path):
            if at.endswith("small"):
                size = sum(len((mount.path / at / name).read_bytes()) for name in files
                           if (mount.path / at / name).is_file())
        mount.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: parse(path)[0]["pxarfs_requests_total", 'operation="readdirplus"'] > 10)
        now = parse(path)[0]
        assert now["pxarfs_chunk_loads_total", 'class="metadata"'] > 0
        assert now["pxarfs_read_bytes_total", None] + now["pxarfs_pushed_bytes_total", None] >= size
        assert "pxarfs_disk_cache_bytes" not in path.read_text()
    after = parse(path)[0]
    assert after["pxarfs_up", None] == 0
    assert after.keys() == now.keys() and all(after[k] >= v for k, v in now.items()
                                              if k[0].endswith("_total"))
    assert not list(folder.glob("pxarfs.prom.*"))


def test_manual_page_has_every_metric(pxarfs, folder, store):
    path = folder / "pxarfs.prom"
    options = f"metrics={path},cache_dir={folder}/chunks"
    with pxarfs.mount("host/split/latest", "root.pxar", repository=store, options=options):
        names = {name for name, _ in parse(path)[0]}
    with pxarfs.mount(repository=store, options=options, name="all"):
        names |= {name for name, _ in parse(path)[0]}
    page = (TOP / "fuse/mount.pxarfs.8").read_text().split(".Sh METRICS", 1)[1].split(".Sh", 1)[0]
    assert names == set(re.findall(r"\bpxarfs_\w+", page))


def test_odd_mount_points_are_escaped(pxarfs, folder):
    path = folder / "pxarfs.prom"
    with pxarfs.mount(SPLIT, options=f"metrics={path}", name='a "b" \\c\nd'):
        assert parse(path)[1] == f'{folder}/a \\"b\\" \\\\c\\nd'


def test_file_that_cannot_be_written_fails_the_mount(pxarfs, folder):
    point = folder / "mnt"
    point.mkdir()
    for path, words in [(folder / "none" / "m", "No such file"), (point, "mnt")]:
        done = pxarfs("mount", "-o", f"metrics={path}", SPLIT, point, status=1)
        assert "metrics" in done.stderr and words in done.stderr
        assert not os.path.ismount(point)
    done = pxarfs("mount", "-o", "metrics=", SPLIT, point, status=2)
    assert "'metrics'" in done.stderr
