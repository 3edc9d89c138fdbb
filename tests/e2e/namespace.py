# SPDX-License-Identifier: Apache-2.0
"""A mount namespace in which mount(8) finds our helpers, everybody may use /dev/fuse, and fstab
and the log are the test's: so that nothing of the machine is changed or needed."""

import os
import shutil
import socket
import subprocess

SETUP = r"""
set -e
cd "$1"
mkdir dev real-sbin sbin
mount -t tmpfs -o mode=755 none dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
	IFS=:; set -- $node; unset IFS
	mknod -m 666 "dev/$1" c "$2" "$3"
done
ln -s /proc/self/fd dev/fd
touch dev/log
mount --bind log dev/log
mount --rbind dev /dev
mount --bind /sbin real-sbin
ln -s "$PWD"/real-sbin/* sbin/
ln -sf "$PWD/pxarfs" sbin/mount.pxarfs
ln -sf "$PWD/pxarfs" sbin/mount.fuse.pxarfs
mount --bind sbin /sbin
mount --bind fstab /etc/fstab
"""


class Namespace:
    """Lives as long as the process that holds it; `log` receives what goes to syslog(3)."""

    def __init__(self, pxarfs):
        self.folder = pxarfs.folder
        os.chmod(self.folder, 0o755)
        # the build may lie where only root may look
        shutil.copy(pxarfs.program, self.folder / "pxarfs")
        (self.folder / "fstab").touch()
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.bind(str(self.folder / "log"))
        self.env = pxarfs.env
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", SETUP +
             "echo ready\nexec sleep infinity\n", "sh", self.folder], stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"ready\n"

    def _command(self, command, uid):
        drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        return ["nsenter", "--mount", f"--target={self.holder.pid}", *drop, *map(str, command)]

    def run(self, *command, uid=0, **kwargs):
        return subprocess.run(self._command(command, uid), env=self.env, text=True, check=False,
                              capture_output=True, timeout=60, **kwargs)

    def start(self, *command, uid=0, **kwargs):
        return subprocess.Popen(self._command(command, uid), env=self.env, **kwargs)

    def mounts(self):
        """{mount point: type, options} of ours."""
        with open(f"/proc/{self.holder.pid}/mounts", encoding="utf-8") as f:
            lines = [line.split() for line in f]
        return {point: (kind, options) for _, point, kind, options, *_ in lines
                if "pxarfs" in kind and point.startswith(f"{self.folder}/")}

    def close(self):
        for point in self.mounts():
            self.run("umount", "-l", point)
        self.holder.kill()
        self.holder.wait()
        self.log.close()
