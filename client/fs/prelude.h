/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prelude - how an archive records the patterns of the command line.
 *
 * Layout:  archive/FORMAT.md, "Recorded patterns".
 */
#ifndef PXARFS_PRELUDE_H
#define PXARFS_PRELUDE_H

#include "archive/match.h"

/* Version 1: the file that holds them.  A real one of that name is never archived. */
#define PRELUDE_FILE_NAME ".pxarexclude-cli"

/* Version 2: append the JSON object.  -EINVAL: the patterns are not UTF-8. */
int prelude_encode(const struct match_list *patterns, struct wbuf *out, struct err *err);

#endif
