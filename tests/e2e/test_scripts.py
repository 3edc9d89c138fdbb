# SPDX-License-Identifier: Apache-2.0
"""What the scripts say where they cannot do their work."""

import shutil
import subprocess

from conftest import TOP


def test_setup_says_so_where_there_is_no_apt(folder):
    (folder / "bash").symlink_to(shutil.which("bash"))
    done = subprocess.run([TOP / "scripts/setup"], env={"PATH": str(folder)}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1
    assert "no Debian (no apt-get)" in done.stderr and "libfuse3-dev" in done.stderr


def test_demo_refuses_what_is_no_folder(folder):
    done = subprocess.run([TOP / "scripts/demo", folder / "nothing"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1
    assert f"{folder}/nothing is no directory" in done.stderr
