/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_mount - `pxarfs mount`: from arguments to a mount that is ready, and its life.
 *
 * The command forks twice and returns when the mount can be used, with exit status 1 and the
 * reason on standard error when it cannot; with -f the process itself serves.  All threads
 * start in the process that serves.  When it is ready and when its end begins, it tells systemd
 * (notify.h).
 *
 * Signals: SIGTERM and SIGINT unmount and end within a second, whatever is stuck; SIGHUP is
 * ignored; SIGUSR1 logs statistics.
 */
#ifndef PXARFS_CMD_MOUNT_H
#define PXARFS_CMD_MOUNT_H

#include "client/cmd/opts.h"

#include <stdbool.h>

extern const struct cmd cmd_mount;

/* Whether a program of this name (argv[0]) is the helper of mount(8). */
bool cmd_mount_is_helper(const char *program);

/* mount(8)'s helper: "mount.pxarfs SOURCE DIR [-sfnv] [-N NS] [-t TYPE] [-o OPTIONS]".  `-f` is
 * mount(8)'s "fake", `-s` passes over unknown options, `-v` says what was done.  Returns the
 * exit status, which mount(8) passes on: its own codes. */
int cmd_mount_helper(int argc, char **argv);

#endif
