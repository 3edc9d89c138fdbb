/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xdg - where the official client keeps a user's configuration; we share it.
 *
 * Owner:   paths are from malloc.
 */
#ifndef PXARFS_XDG_H
#define PXARFS_XDG_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

/* "$XDG_CONFIG_HOME/proxmox-backup", or below ~/.config; NULL when neither is known. */
char *xdg_config_folder(void);

/* The path of `name` in it; makes the folders above it.  -ENOENT: no such place is known. */
int xdg_config_path(const char *name, char **out, struct err *err);

/* Put `text` in the place of a small file, whole or not at all; mode 0600. */
int xdg_replace(const char *path, const struct wbuf *text, struct err *err);

#endif
