/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes, listings and what is open, over a repository in memory. */
#include "client/base/clock.h"
#include "fuse/inode.h"
#include "fuse/snaps.h"

#include "archive/blob.h"
#include "tests/support/lib/repo_fill.h"
#include "tests/support/lib/repo_memory.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/files/"

enum {
	CHUNK = 64 << 10,
	IDLE_MS = 1000000,
	NEVER_MS = 100000000, /* a listing does not grow old by itself */
	FIRST = 1800000000,
	STEP = 60,
};

struct bench {
	struct repo *repo;
	struct chunk_cache *cache;
	struct fetch *fetch;
	struct snaps *snaps;
	struct repo_tree *tree;
	struct node *root;
	struct err err;
};

/* A mount that has no kernel to tell. */
static struct mount no_kernel;

static const struct repo_memory_match any_list = { .call = REPO_MEMORY_LIST };
static const struct repo_memory_match any_open = { .call = REPO_MEMORY_OPEN };
static const struct repo_memory_match any_chunk = { .call = REPO_MEMORY_GET_CHUNK };

static struct snapshot_name name_of(const char *id, unsigned i)
{
	struct snapshot_name name = { .group.type = "host", .time = FIRST + STEP * i };

	snprintf(name.group.id, sizeof(name.group.id), "%s", id);
	return name;
}

static void add_stream(struct bench *b, const struct snapshot_name *name, struct manifest *m,
		       const char *stored, const char *golden)
{
	size_t size;
	AUTO(free) uint8_t *data = repo_fill_read(golden, &size);

	repo_fill_stream(b->repo, name, m, stored, data, size, CHUNK);
}

/* A snapshot with a split archive; `i` is minutes. */
static void add_snapshot(struct bench *b, const char *id, unsigned i)
{
	struct snapshot_name name = name_of(id, i);
	AUTO(manifest) struct manifest *m = manifest_new("host", id, name.time);

	add_stream(b, &name, m, "root.mpxar.didx", GOLDEN "split.mpxar");
	add_stream(b, &name, m, "root.ppxar.didx", GOLDEN "split.ppxar");
	repo_fill_manifest(b->repo, &name, m);
}

static void open_with(struct bench *b, struct snaps_params params)
{
	params.repo = b->repo;
	params.fetch = b->fetch;
	params.ns = "";
	params.refresh_ms = NEVER_MS;
	params.idle_ms = IDLE_MS;
	if (!params.open_max)
		params.open_max = SNAPS_OPEN_MAX;
	if (!params.bytes_max)
		params.bytes_max = SNAPS_BYTES_MAX;
	assert_int_equal(snaps_new(&b->snaps, &params, &b->err), 0);
	b->tree = snaps_tree(b->snaps);
	b->root = repo_tree_node(b->tree, 0);
}

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->repo = repo_memory_new();
	b->cache = chunk_cache_new(16 << 20);
	b->fetch = fetch_new(b->cache, 4);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	fetch_stop(b->fetch);
	snaps_free(b->snaps);
	fetch_free(b->fetch);
	chunk_cache_free(b->cache);
	repo_free(b->repo);
	free(b);
	return 0;
}

/* --- waiting, as a request would --- */

typedef int asks(struct bench *b, struct node *node, struct fetch_want *want, struct err *err);

static int ask_children(struct bench *b, struct node *node, struct fetch_want *want,
			struct err *err)
{
	if (node->kind == NODE_SNAPSHOT)
		return snaps_has_files(b->snaps, node, want, err);
	return repo_tree_has_children(b->tree, node, want, err);
}

static int wait_for(struct bench *b, struct node *node, asks *ask, struct err *err)
{
	struct fetch_want want;
	struct chunk *chunk;
	int rc;

	while ((rc = ask(b, node, &want, err)) == -EAGAIN) {
		rc = fetch_wait_for(b->fetch, &want, &chunk, err);
		if (rc < 0)
			return rc;
		chunk_unref(chunk);
	}
	return rc;
}

static int list(struct bench *b, struct node *node)
{
	return wait_for(b, node, ask_children, &b->err);
}

static size_t count_children(struct bench *b, const struct node *node)
{
	size_t count = 0;

	repo_tree_lock(b->tree);
	for (const struct node *i = node->first; i; i = i->next)
		count++;
	repo_tree_unlock(b->tree);
	return count;
}

/* Down from the root, listing on the way. */
static struct node *walk(struct bench *b, const char *path)
{
	AUTO(free) char *copy = strdup(path);
	struct node *node = b->root;
	char *rest = NULL;

	for (char *p = strtok_r(copy, "/", &rest); p && node; p = strtok_r(NULL, "/", &rest)) {
		assert_int_equal(list(b, node), 0);
		repo_tree_lock(b->tree);
		node = repo_tree_child(b->tree, node, p);
		repo_tree_unlock(b->tree);
	}
	return node;
}

/* Its listing is too old now. */
static void expire(struct bench *b, struct node *node)
{
	repo_tree_lock(b->tree);
	node->listed_ms = 0;
	repo_tree_unlock(b->tree);
}

static int enter(struct bench *b, struct node *archive, struct shown **out, struct err *err)
{
	struct fetch_want want;
	struct chunk *chunk;
	int rc;

	while ((rc = snaps_enter(b->snaps, archive, out, &want, err)) == -EAGAIN) {
		rc = fetch_wait_for(b->fetch, &want, &chunk, err);
		if (rc < 0)
			return rc;
		chunk_unref(chunk);
	}
	return rc;
}

static struct shown *entered(struct bench *b, const char *path)
{
	struct node *archive = walk(b, path);
	struct shown *shown = NULL;

	assert_non_null(archive);
	if (enter(b, archive, &shown, &b->err) != 0)
		fail_msg("%s", b->err.text);
	return shown;
}

static struct snaps_stats stats_of(struct bench *b)
{
	struct snaps_stats stats;

	snaps_stats(b->snaps, &stats);
	return stats;
}

/* --- what there is --- */

static void only_what_is_looked_at_is_listed(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < 3; i++)
		add_snapshot(b, "a", i);
	add_snapshot(b, "single", 0);
	open_with(b, (struct snaps_params){ 0 });
	assert_int_equal(repo_memory_count(b->repo, &any_list), 0);
	assert_non_null(walk(b, "host"));
	assert_int_equal(repo_memory_count(b->repo, &any_list), 2); /* namespaces, groups */
	assert_non_null(walk(b, "host/a/2027-01-15T08:01:00Z"));
	assert_int_equal(repo_memory_count(b->repo, &any_list), 3);
	assert_null(walk(b, "host/a/2027-01-15T09:01:00Z"));
	assert_non_null(walk(b, "host/single/2027-01-15T08:00:00Z"));
	assert_string_equal(walk(b, "host/a/latest")->stored, "2027-01-15T08:02:00Z");
	assert_int_equal(repo_memory_count(b->repo, &any_list), 3);
	assert_int_equal(repo_memory_count(b->repo, &any_open), 0);
}

static void what_a_new_listing_lacks_is_gone_for_good(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 1);
	struct node *group, *old, *latest;
	struct fetch_want want;
	int64_t mtime_ns;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	old = walk(b, "host/a/2027-01-15T08:01:00Z");
	latest = walk(b, "host/a/latest");
	group = old->parent;
	mtime_ns = group->mtime_ns;
	assert_int_equal(mtime_ns, INT64_C(1000000000) * name.time);

	repo_memory_remove_snapshot(b->repo, &name);
	expire(b, group->parent->parent);
	assert_int_equal(list(b, group), 0);
	assert_int_equal(repo_tree_is_fresh(b->tree, old, &want, &b->err), -ESTALE);
	assert_true(latest->is_gone);
	assert_string_equal(walk(b, "host/a/latest")->stored, "2027-01-15T08:00:00Z");
	assert_true(group->mtime_ns > mtime_ns);

	add_snapshot(b, "a", 1);
	expire(b, group->parent->parent);
	assert_int_equal(list(b, group), 0);
	assert_ptr_not_equal(walk(b, "host/a/2027-01-15T08:01:00Z"), old);
	assert_ptr_equal(repo_tree_node(b->tree, old->id), old);
	assert_true(old->is_gone);
}

static void a_listing_goes_on_from_a_child_that_is_gone(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 1);
	struct node *group, *second, *third;

	for (unsigned i = 0; i < 3; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	group = walk(b, "host/a");
	assert_int_equal(list(b, group), 0);
	second = walk(b, "host/a/2027-01-15T08:01:00Z");
	third = second->next;
	repo_memory_remove_snapshot(b->repo, &name);
	repo_tree_remove(b->tree, second);
	repo_tree_lock(b->tree);
	assert_ptr_equal(repo_tree_after(b->tree, group, second->id), third);
	assert_ptr_equal(repo_tree_after(b->tree, group, 0), group->first);
	assert_null(repo_tree_after(b->tree, group, group->last->id));
	repo_tree_unlock(b->tree);
}

static void namespaces_are_folders_in_folders(void **state)
{
	struct bench *b = *state;
	struct node *prod;

	repo_memory_add_ns(b->repo, "prod");
	repo_memory_add_ns(b->repo, "prod/eu");
	repo_memory_add_ns(b->repo, "prod/host");
	open_with(b, (struct snaps_params){ 0 });
	prod = walk(b, "ns/prod");
	assert_non_null(walk(b, "ns/prod/ns/eu"));
	assert_non_null(walk(b, "ns/prod/ns/host"));
	repo_tree_lock(b->tree);
	assert_string_equal(repo_tree_alias(b->tree, prod, "eu")->stored, "ns/eu");
	assert_true(repo_tree_is_hidden(repo_tree_alias(b->tree, prod, "eu")));
	assert_null(repo_tree_alias(b->tree, prod, "host"));
	assert_null(repo_tree_alias(b->tree, prod, "us"));
	repo_tree_unlock(b->tree);
}

static void times_far_away_are_no_harm(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 0);
	AUTO(manifest) struct manifest *m = NULL;
	struct node *far;

	name.time = 253402300799; /* the year 9999 */
	m = manifest_new("host", "a", name.time);
	repo_fill_manifest(b->repo, &name, m);
	add_snapshot(b, "a", 0);
	open_with(b, (struct snaps_params){ 0 });
	far = walk(b, "host/a/9999-12-31T23:59:59Z");
	assert_non_null(far);
	assert_true(far->mtime_ns > INT64_C(9000000000) * 1000000000);
	assert_true(far->parent->mtime_ns >= far->mtime_ns);
}

static void a_failed_listing_is_an_error_only_the_first_time(void **state)
{
	struct bench *b = *state;
	const struct repo_memory_fault fault = { .match = any_list,
						 .damage = REPO_MEMORY_FAIL,
						 .value = EIO };
	struct node *group;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	repo_memory_add_fault(b->repo, &fault);
	assert_int_equal(list(b, b->root), -EIO);
	repo_memory_heal(b->repo);
	group = walk(b, "host/a");
	assert_int_equal(list(b, group), 0);
	repo_memory_add_fault(b->repo, &fault);
	expire(b, group->parent->parent);
	expire(b, group);
	assert_int_equal(list(b, group), 0);
	assert_int_equal(count_children(b, group), 3);
}

/* --- what is open --- */

static void opening_is_one_session_however_many_ask(void **state)
{
	struct bench *b = *state;
	struct shown *first, *second;
	struct node *snapshot;

	add_snapshot(b, "a", 0);
	open_with(b, (struct snaps_params){ 0 });
	snapshot = walk(b, "host/a/2027-01-15T08:00:00Z");
	assert_int_equal(repo_memory_count(b->repo, &any_open), 0);
	assert_int_equal(list(b, snapshot), 0);
	assert_int_equal(count_children(b, snapshot), 2); /* root.pxar, index.json */
	first = entered(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	second = entered(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	assert_ptr_equal(first, second);
	assert_int_equal(repo_memory_count(b->repo, &any_open), 1);
	assert_int_equal(repo_memory_count(b->repo, &any_chunk), 0);
	assert_string_equal(first->name, "host/a/2027-01-15T08:00:00Z/root.pxar");
	shown_let_go(first);
	shown_let_go(second);
}

static void what_nobody_uses_is_closed_in_time_and_opened_again(void **state)
{
	struct bench *b = *state;
	struct shown *shown;
	uint32_t slot;

	add_snapshot(b, "a", 0);
	open_with(b, (struct snaps_params){ 0 });
	shown = entered(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	slot = shown->slot;
	snaps_close_idle(b->snaps, clock_now_ms() + 2 * IDLE_MS);
	assert_int_equal(stats_of(b).snapshots, 1); /* it is held */
	shown_let_go(shown);
	snaps_close_idle(b->snaps, clock_now_ms());
	assert_int_equal(stats_of(b).snapshots, 1); /* it is not long ago */
	snaps_close_idle(b->snaps, clock_now_ms() + 2 * IDLE_MS);
	assert_int_equal(stats_of(b).snapshots, 0);
	assert_int_equal(stats_of(b).archives, 0);
	shown = entered(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	assert_int_equal(shown->slot, slot);
	assert_int_equal(stats_of(b).opened, 2);
	shown_let_go(shown);
}

static void a_slot_is_as_wide_as_the_archive_needs_and_nobody_elses(void **state)
{
	struct bench *b = *state;
	struct node *one, *other;
	uint32_t slot, again, wide;

	add_snapshot(b, "a", 0);
	add_snapshot(b, "a", 1);
	open_with(b, (struct snaps_params){ 0 });
	one = walk(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	other = walk(b, "host/a/2027-01-15T08:01:00Z/root.pxar");
	assert_int_equal(snaps_slot(b->snaps, one, 0, &slot, &b->err), 0);
	assert_int_equal(snaps_slot(b->snaps, one, 1 << 20, &again, &b->err), 0);
	assert_int_equal(slot, again);
	assert_int_equal(snaps_slot(b->snaps, other, 1 << 20, &again, &b->err), 0);
	assert_int_not_equal(slot, again);
	/* When its size was not known it got one that is too narrow. */
	assert_int_equal(snaps_slot(b->snaps, one, INODE_OFFSET_MAX, &wide, &b->err), 0);
	assert_int_not_equal(slot, wide);
	assert_int_equal(inode_class_of_slot(wide)->offset_bits, 47);
	assert_null(snaps_at(b->snaps, slot));
	assert_ptr_equal(snaps_at(b->snaps, wide), one);
	assert_ptr_equal(snaps_at(b->snaps, again), other);
	assert_null(snaps_at(b->snaps, 0));
	assert_null(snaps_at(b->snaps, again + 1));
	assert_null(snaps_at(b->snaps, INODE_CLASS[1].slot_begin));
	assert_int_equal(snaps_slot(b->snaps, one, INODE_OFFSET_MAX + 1, &wide, &b->err), -E2BIG);
}

static void the_longest_unused_are_closed_when_there_are_too_many(void **state)
{
	struct bench *b = *state;
	char path[64];

	for (unsigned i = 0; i < 5; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ .open_max = 2 });
	for (unsigned i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "host/a/2027-01-15T08:0%u:00Z/root.pxar", i);
		shown_let_go(entered(b, path));
	}
	assert_int_equal(stats_of(b).snapshots, 5);
	snaps_close_idle(b->snaps, clock_now_ms());
	assert_int_equal(stats_of(b).snapshots, 2);
}

static void archives_with_large_indexes_are_closed_their_snapshots_stay(void **state)
{
	struct bench *b = *state;
	char path[64];

	for (unsigned i = 0; i < 3; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ .bytes_max = 1 });
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "host/a/2027-01-15T08:0%u:00Z/root.pxar", i);
		shown_let_go(entered(b, path));
	}
	snaps_close_idle(b->snaps, clock_now_ms());
	assert_int_equal(stats_of(b).snapshots, 3);
	assert_int_equal(stats_of(b).archives, 1); /* the one used last */
}

static void a_snapshot_that_is_gone_is_stale_and_closed(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 0);
	struct node *archive;
	struct shown *shown;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	archive = walk(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	assert_int_equal(enter(b, archive, &shown, &b->err), 0);
	shown_let_go(shown);
	snaps_close_idle(b->snaps, clock_now_ms() + 2 * IDLE_MS);
	repo_memory_remove_snapshot(b->repo, &name);
	assert_int_equal(enter(b, archive, &shown, &b->err), -ESTALE);
	assert_null(walk(b, "host/a/2027-01-15T08:00:00Z"));
}

static void one_that_was_made_anew_is_another(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 0);
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", name.time);
	struct node *archive;
	struct shown *shown;

	add_snapshot(b, "a", 0);
	open_with(b, (struct snaps_params){ 0 });
	archive = walk(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	assert_int_equal(enter(b, archive, &shown, &b->err), 0);
	shown_let_go(shown);
	snaps_close_idle(b->snaps, clock_now_ms() + 2 * IDLE_MS);
	add_stream(b, &name, m, "root.pxar.didx", GOLDEN "legacy.pxar");
	repo_fill_manifest(b->repo, &name, m);
	assert_int_equal(enter(b, archive, &shown, &b->err), -ESTALE);
	assert_true(archive->is_gone);
}

static void what_cannot_be_opened_harms_nothing_else(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 0);
	struct node *archive;
	struct shown *shown;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	repo_memory_add_file(b->repo, &name, "root.mpxar.didx", "junk", 4);
	open_with(b, (struct snaps_params){ 0 });
	archive = walk(b, "host/a/2027-01-15T08:00:00Z/root.pxar");
	assert_int_equal(enter(b, archive, &shown, &b->err), -EBADMSG);
	assert_non_null(strstr(b->err.text, "host/a/2027-01-15T08:00:00Z: root.mpxar.didx"));
	shown_let_go(entered(b, "host/a/2027-01-15T08:01:00Z/root.pxar"));

	repo_memory_add_file(b->repo, &name, MANIFEST_BLOB_NAME, "junk", 4);
	snaps_close_idle(b->snaps, clock_now_ms() + 2 * IDLE_MS);
	assert_int_equal(enter(b, archive, &shown, &b->err), -EBADMSG);
}

/* A store that hangs holds up those who want that snapshot, and nobody else. */
static void a_snapshot_that_hangs_holds_up_nobody_else(void **state)
{
	struct bench *b = *state;
	const struct repo_memory_match manifest = { .call = REPO_MEMORY_GET_FILE,
						    .file = MANIFEST_BLOB_NAME };
	struct repo_memory_gate *gate;
	struct fetch_want want;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	shown_let_go(entered(b, "host/a/2027-01-15T08:01:00Z/root.pxar"));
	gate = repo_memory_gate(b->repo, &manifest);
	assert_int_equal(snaps_has_files(b->snaps, walk(b, "host/a/2027-01-15T08:00:00Z"), &want,
					 &b->err),
			 -EAGAIN);
	fetch_hint(b->fetch, &want);
	repo_memory_gate_await(gate, 1);
	shown_let_go(entered(b, "host/a/2027-01-15T08:01:00Z/root.pxar"));
	assert_int_equal(stats_of(b).snapshots, 1);
	repo_memory_gate_open(gate);
}

static void blobs_have_the_size_of_their_content(void **state)
{
	struct bench *b = *state;
	struct node *blob;
	struct fetch_want want;
	struct chunk *chunk;
	uint64_t size;

	add_snapshot(b, "a", 0);
	open_with(b, (struct snaps_params){ 0 });
	blob = walk(b, "host/a/2027-01-15T08:00:00Z/index.json");
	assert_int_equal(snaps_blob_size(b->snaps, blob, &size, &want), -EAGAIN);
	assert_int_equal(fetch_wait_for(b->fetch, &want, &chunk, &b->err), 0);
	chunk_unref(chunk);
	assert_int_equal(snaps_blob_size(b->snaps, blob, &size, &want), 0);
	assert_true(size > 100);
	snaps_blob_want(b->snaps, blob, &want);
	assert_int_equal(fetch_wait_for(b->fetch, &want, &chunk, &b->err), 0);
	assert_int_equal(chunk->size, size);
	assert_int_equal(chunk->data[0], '{');
	chunk_unref(chunk);
}

/* --- what has gone --- */

static void remove_snapshot(struct bench *b, struct node *group, unsigned i)
{
	struct snapshot_name name = name_of(group->name, i);

	repo_memory_remove_snapshot(b->repo, &name);
	expire(b, group->parent->parent);
	assert_int_equal(list(b, group), 0);
}

static void what_has_gone_is_discarded_with_all_below_it(void **state)
{
	struct bench *b = *state;
	struct node *group;
	uint64_t ids[2];
	size_t count;
	uint32_t slot;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	group = walk(b, "host/a");
	assert_int_equal(list(b, group), 0);
	count = stats_of(b).nodes;
	for (unsigned i = 2; i < 5; i++) {
		char path[64];
		struct shown *shown;

		add_snapshot(b, "a", i);
		expire(b, group->parent->parent);
		snprintf(path, sizeof(path), "host/a/2027-01-15T08:0%u:00Z/root.pxar", i);
		shown = entered(b, path);
		slot = shown->slot;
		ids[0] = walk(b, path)->id;
		ids[1] = walk(b, path)->parent->id;
		shown_let_go(shown);
		assert_true(stats_of(b).nodes > count + 2);
		remove_snapshot(b, group, i);
		snaps_close_idle(b->snaps, clock_now_ms());
		assert_false(snaps_discard_gone(b->snaps));
		assert_int_equal(stats_of(b).nodes, count);
		assert_null(repo_tree_node(b->tree, ids[0]));
		assert_null(repo_tree_node(b->tree, ids[1]));
		assert_null(snaps_at(b->snaps, slot));
	}
	assert_string_equal(walk(b, "host/a/latest")->stored, "2027-01-15T08:01:00Z");
}

static void what_is_held_or_loaded_is_not_discarded(void **state)
{
	struct bench *b = *state;
	const struct repo_memory_match manifest = { .call = REPO_MEMORY_GET_FILE,
						    .file = MANIFEST_BLOB_NAME };
	struct repo_memory_gate *gate;
	struct fetch_want want;
	struct node *group;
	struct shown *shown;
	size_t count, kept;
	bool is_left;

	for (unsigned i = 0; i < 3; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	group = walk(b, "host/a");
	shown = entered(b, "host/a/2027-01-15T08:01:00Z/root.pxar");
	gate = repo_memory_gate(b->repo, &manifest);
	assert_int_equal(snaps_has_files(b->snaps, walk(b, "host/a/2027-01-15T08:02:00Z"), &want,
					 &b->err), -EAGAIN);
	fetch_hint(b->fetch, &want);
	repo_memory_gate_await(gate, 1);
	remove_snapshot(b, group, 1);
	remove_snapshot(b, group, 2);
	count = stats_of(b).nodes;
	snaps_close_idle(b->snaps, clock_now_ms());
	is_left = snaps_discard_gone(b->snaps);
	kept = stats_of(b).nodes;
	shown_let_go(shown);
	repo_memory_gate_open(gate);
	assert_true(is_left);
	assert_int_equal(kept, count - 2); /* index.json of the one, the link to the other */

	fetch_drain(b->fetch, want.source);
	snaps_close_idle(b->snaps, clock_now_ms());
	assert_false(snaps_discard_gone(b->snaps));
	assert_int_equal(count_children(b, group), 2);
	assert_int_equal(stats_of(b).nodes, count - 5);
}

/* --- many at once --- */

enum { USERS = 4, ROUNDS = 60, SNAPSHOTS = 6 };

static void *use(void *arg)
{
	struct bench *b = arg;
	struct node *archives[SNAPSHOTS];
	char path[64];

	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		snprintf(path, sizeof(path), "host/a/2027-01-15T08:0%u:00Z/root.pxar", i);
		archives[i] = walk(b, path);
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct err err = ERR_INIT;
		const struct tree *tree;
		struct shown *shown;

		if (enter(b, archives[i % SNAPSHOTS], &shown, &err) != 0)
			return "enter";
		if (archive_tree(shown->archive, &tree, &err) != 0)
			return "tree";
		if (i % 3 == 0)
			nlink_start(shown->nlink, &no_kernel, shown->slot);
		shown_let_go(shown);
	}
	return NULL;
}

static void opening_and_closing_do_not_disturb_each_other(void **state)
{
	struct bench *b = *state;
	pthread_t users[USERS];
	void *failed;

	for (unsigned i = 0; i < SNAPSHOTS; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ .open_max = 2 });
	assert_int_equal(snaps_start(b->snaps, NULL, &b->err), 0);
	walk(b, "host/a");
	for (unsigned i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&users[i], NULL, use, b), 0);
	for (unsigned i = 0; i < ROUNDS; i++)
		snaps_close_idle(b->snaps, clock_now_ms() + 2 * IDLE_MS);
	for (unsigned i = 0; i < USERS; i++) {
		pthread_join(users[i], &failed);
		if (failed)
			fail_msg("%s", (char *)failed);
	}
	snaps_stop(b->snaps);
	assert_true(snaps_join(b->snaps, 60000));
}

/* As requests do: by number, pinned, and told that there is nobody. */
static void *come_upon(void *arg)
{
	struct bench *b = arg;

	for (uint64_t id = 0; id < ROUNDS * 8; id++) {
		struct fetch_want want;
		struct err err = ERR_INIT;
		struct shown *shown;
		struct node *node;

		repo_tree_pin(b->tree);
		node = repo_tree_node(b->tree, id % (ROUNDS * 4));
		if (node && node->kind == NODE_ARCHIVE &&
		    snaps_enter(b->snaps, node, &shown, &want, &err) == 0)
			shown_let_go(shown);
		else if (node)
			repo_tree_is_fresh(b->tree, node, &want, &err);
		repo_tree_unpin(b->tree);
	}
	return NULL;
}

static void discarding_does_not_disturb_who_comes_upon_nodes(void **state)
{
	struct bench *b = *state;
	pthread_t users[USERS];
	struct node *group;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	group = walk(b, "host/a");
	for (unsigned i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&users[i], NULL, come_upon, b), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		add_snapshot(b, "a", 2);
		expire(b, group->parent->parent);
		shown_let_go(entered(b, "host/a/2027-01-15T08:02:00Z/root.pxar"));
		remove_snapshot(b, group, 2);
		snaps_close_idle(b->snaps, clock_now_ms());
		snaps_discard_gone(b->snaps);
	}
	for (unsigned i = 0; i < USERS; i++)
		pthread_join(users[i], NULL);
	snaps_close_idle(b->snaps, clock_now_ms());
	assert_false(snaps_discard_gone(b->snaps));
	assert_int_equal(count_children(b, group), 3);
}

/* Of ".versions", as its look-ups make them. */
static struct node *make_version(struct bench *b, struct node *parent, const char *name)
{
	struct node *node;

	repo_tree_lock(b->tree);
	node = repo_tree_add(b->tree, parent, NODE_VERSIONS, name, NULL);
	repo_tree_unlock(b->tree);
	assert_non_null(node);
	repo_tree_trim_versions(b->tree, node);
	return node;
}

/* The log of its client, with so many letters. */
static void put_log(struct bench *b, const struct snapshot_name *name, size_t size)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(1 << 20);
	const char text[] = "some words, none of them of interest";

	assert_true(size < sizeof(text));
	assert_int_equal(blob_encode(codec, text, size, false, &stored, NULL), 0);
	repo_memory_add_file(b->repo, name, REPO_CLIENT_LOG, stored.data, stored.size);
}

/* A reader takes it for what his chunk has. */
static void a_size_that_was_known_once_is_the_size(void **state)
{
	struct bench *b = *state;
	struct snapshot_name name = name_of("a", 0);
	struct fetch_want want, again;
	struct chunk *chunk;
	struct node *blob;
	uint64_t size;

	add_snapshot(b, "a", 0);
	put_log(b, &name, 10);
	open_with(b, (struct snaps_params){ 0 });
	blob = walk(b, "host/a/2027-01-15T08:00:00Z/client.log");
	assert_int_equal(snaps_blob_size(b->snaps, blob, &size, &want), -EAGAIN);
	again = want;
	again.key.bytes[DIGEST_SIZE - 9] ^= 1; /* as if its answer had left the cache */
	assert_int_equal(fetch_wait_for(b->fetch, &want, &chunk, &b->err), 0);
	chunk_unref(chunk);
	put_log(b, &name, 20);
	assert_int_equal(fetch_wait_for(b->fetch, &again, &chunk, &b->err), -EIO);
	assert_non_null(strstr(b->err.text, "its size has changed"));
	assert_int_equal(snaps_blob_size(b->snaps, blob, &size, &want), 0);
	assert_int_equal(size, 10);
}

static void the_longest_known_versions_are_forgotten_when_there_are_too_many(void **state)
{
	struct bench *b = *state;
	struct node *group, *versions, *archive, *path, *name = NULL;
	char text[32];
	size_t count;

	for (unsigned i = 0; i < 2; i++)
		add_snapshot(b, "a", i);
	open_with(b, (struct snaps_params){ 0 });
	group = walk(b, "host/a");
	assert_int_equal(list(b, group), 0);
	count = stats_of(b).nodes;
	versions = make_version(b, group, REPO_TREE_VERSIONS);
	archive = make_version(b, versions, "root.pxar");
	path = make_version(b, archive, "path");
	for (unsigned i = 0; i < 3 * REPO_TREE_VERSIONS_MAX; i++) {
		snprintf(text, sizeof(text), "file %u", i);
		name = make_version(b, path, text);
		assert_false(snaps_discard_gone(b->snaps));
		assert_true(stats_of(b).nodes <= count + REPO_TREE_VERSIONS_MAX);
	}
	assert_true(stats_of(b).nodes > count + REPO_TREE_VERSIONS_MAX / 2);
	assert_false(path->is_gone || archive->is_gone || versions->is_gone);
	assert_ptr_equal(walk(b, "host/a/.versions/root.pxar/path")->last, name);
	assert_null(walk(b, "host/a/.versions/root.pxar/path/file 0"));
	/* and a snapshot was none of them */
	assert_non_null(walk(b, "host/a/2027-01-15T08:00:00Z"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_what_is_looked_at_is_listed),
		TEST(what_a_new_listing_lacks_is_gone_for_good),
		TEST(a_listing_goes_on_from_a_child_that_is_gone),
		TEST(namespaces_are_folders_in_folders),
		TEST(times_far_away_are_no_harm),
		TEST(a_failed_listing_is_an_error_only_the_first_time),
		TEST(opening_is_one_session_however_many_ask),
		TEST(what_nobody_uses_is_closed_in_time_and_opened_again),
		TEST(a_slot_is_as_wide_as_the_archive_needs_and_nobody_elses),
		TEST(the_longest_unused_are_closed_when_there_are_too_many),
		TEST(archives_with_large_indexes_are_closed_their_snapshots_stay),
		TEST(a_snapshot_that_is_gone_is_stale_and_closed),
		TEST(one_that_was_made_anew_is_another),
		TEST(what_cannot_be_opened_harms_nothing_else),
		TEST(a_snapshot_that_hangs_holds_up_nobody_else),
		TEST(blobs_have_the_size_of_their_content),
		TEST(what_has_gone_is_discarded_with_all_below_it),
		TEST(what_is_held_or_loaded_is_not_discarded),
		TEST(opening_and_closing_do_not_disturb_each_other),
		TEST(discarding_does_not_disturb_who_comes_upon_nodes),
		TEST(a_size_that_was_known_once_is_the_size),
		TEST(the_longest_known_versions_are_forgotten_when_there_are_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
