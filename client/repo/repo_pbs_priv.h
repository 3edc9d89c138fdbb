/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_pbs_priv - what the files of repo_pbs share; nobody else includes it.
 */
#ifndef PXARFS_REPO_PBS_PRIV_H
#define PXARFS_REPO_PBS_PRIV_H

#include "client/repo/pbs_rest.h"
#include "client/repo/repo_pbs.h"

struct repo_pbs {
	struct repo base; /* first: the interface casts */
	struct pbs_rest *rest;
};

/* repo_pbs_care.c; and struct repo_ops: put_log. */
extern const struct repo_care_ops REPO_PBS_CARE;
int repo_pbs_put_log(struct repo *r, const struct snapshot_name *name, const void *data,
		     size_t size, struct err *err);

/* The parameters that name a group or a snapshot in every call; the root namespace is left out.
 * NULL: out of memory. */
json_t *repo_pbs_group_params(const struct snapshot_group *group);
json_t *repo_pbs_snapshot_params(const struct snapshot_name *name);

/* struct repo_ops: list_snapshots. */
int repo_pbs_list_snapshots(struct repo *r, const struct snapshot_group *group,
			    repo_snapshot_visit *visit, void *arg, struct err *err);

/* How many bytes a file of that name may have. */
size_t repo_pbs_file_size_max(const char *name);

/* The bytes as a file of their own; a large one leaves the heap. */
void repo_pbs_file(struct wbuf *bytes, struct repo_file *out);

/* struct repo_ops: read. */
int repo_pbs_read(struct repo *r, const struct snapshot_name *name, struct repo_reader **out,
		  struct err *err);

/* struct repo_ops: write. */
int repo_pbs_write(struct repo *r, const struct repo_writer_params *params,
		   struct repo_writer **out, struct err *err);

#endif
