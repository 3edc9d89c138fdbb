/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/stats.h"

#include "fuse/idle_poll.h"
#include "fuse/snaps.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum number {
	/* MOUNT_LOOKUP and so on come first */
	META_CHUNKS = MOUNT_COUNTERS,
	PAYLOAD_CHUNKS,
	FETCH_ERRORS,
	CACHE_HITS,
	CACHE_MISSES,
	CACHE_BYTES,
	FOLDER_HITS,
	FOLDER_MISSES,
	FOLDER_BYTES,
	PARKED,
	WAITING,
	TIMEOUTS,
	INTERRUPTS,
	IDLE_POLLS,
	IDLE_POLL_US,
	DISK_HITS, /* from here on: of the cache on disk */
	DISK_MISSES,
	DISK_DAMAGED,
	DISK_STORED,
	DISK_FAILURES,
	DISK_BYTES,
	SNAPSHOTS_OPENED, /* from here on: of a mount of many snapshots */
	SNAPSHOTS,
	ARCHIVES,
	INDEX_BYTES,
	NODES,
	NUMBER_COUNT
};

struct row {
	unsigned number; /* enum mount_count or enum number */
	const char *name; /* in the log */
	const char *metric; /* without "pxarfs_"; a counter when it ends in "_total" */
	const char *label; /* with its value, or NULL */
	const char *help; /* at the first row of a metric */
};

#define REQUESTS(number, operation) \
	{ number, operation, "requests_total", "operation=\"" operation "\"", \
	  "Requests of the kernel." }

/* Rows of one metric stand together. */
static const struct row rows[] = {
	REQUESTS(MOUNT_LOOKUP, "lookup"),
	REQUESTS(MOUNT_GETATTR, "getattr"),
	REQUESTS(MOUNT_READDIR, "readdir"),
	REQUESTS(MOUNT_READDIRPLUS, "readdirplus"),
	REQUESTS(MOUNT_READ, "read"),
	REQUESTS(MOUNT_READLINK, "readlink"),
	REQUESTS(MOUNT_XATTR, "xattr"),
	REQUESTS(MOUNT_IOCTL, "ioctl"),
	REQUESTS(MOUNT_STATFS, "statfs"),
	REQUESTS(MOUNT_OPEN, "open"),
	REQUESTS(MOUNT_OPENDIR, "opendir"),
	{ MOUNT_READ_BYTES, "read_bytes", "read_bytes_total", NULL,
	  "Bytes of file content that answered requests." },
	{ MOUNT_PUSHED, "pushed", "pushed_files_total", NULL,
	  "Files put into the page cache before they were asked for." },
	{ MOUNT_PUSHED_BYTES, "pushed_bytes", "pushed_bytes_total", NULL,
	  "Bytes of these files." },
	{ MOUNT_PUSH_REFUSED, "push_refused", "push_refused_files_total", NULL,
	  "Files that the kernel did not know when they were to be pushed." },
	{ MOUNT_CORRECTED, "corrected", "links_corrected_total", NULL,
	  "Files whose number of links was first answered wrongly, and then corrected." },
	{ PARKED, "parked", "requests_parked_total", NULL,
	  "How often a request had to wait for a chunk." },
	{ WAITING, "waiting", "requests_waiting", NULL, "Requests that wait now." },
	{ TIMEOUTS, "timeouts", "request_timeouts_total", NULL,
	  "Requests that failed because a chunk did not come in time." },
	{ INTERRUPTS, "interrupts", "request_interrupts_total", NULL,
	  "Requests that were taken back while they waited." },
	{ IDLE_POLLS, "idle_polls", "idle_polls_total", NULL,
	  "How often idle CPUs were made to poll." },
	{ IDLE_POLL_US, "idle_poll_us", "idle_poll_microseconds_total", NULL,
	  "How long, all in all." },
	{ META_CHUNKS, "meta_chunks", "chunk_loads_total", "class=\"metadata\"",
	  "Chunks loaded, from the cache on disk or from the repository." },
	{ PAYLOAD_CHUNKS, "payload_chunks", "chunk_loads_total", "class=\"payload\"", NULL },
	{ FETCH_ERRORS, "fetch_errors", "chunk_load_errors_total", NULL, "Loads that failed." },
	{ CACHE_HITS, "cache_hits", "chunk_cache_hits_total", NULL,
	  "Chunks that were in memory when wanted." },
	{ CACHE_MISSES, "cache_misses", "chunk_cache_misses_total", NULL,
	  "Chunks that were not." },
	{ CACHE_BYTES, "cache_bytes", "chunk_cache_bytes", NULL, "Bytes of chunks in memory." },
	{ FOLDER_HITS, "folder_hits", "folder_cache_hits_total", NULL,
	  "Folders that were in memory when wanted." },
	{ FOLDER_MISSES, "folder_misses", "folder_cache_misses_total", NULL,
	  "Folders that were not." },
	{ FOLDER_BYTES, "folder_bytes", "folder_cache_bytes", NULL,
	  "Bytes of folders in memory." },
	{ DISK_HITS, "disk_hits", "disk_cache_hits_total", NULL,
	  "Chunks that were on disk when wanted." },
	{ DISK_MISSES, "disk_misses", "disk_cache_misses_total", NULL,
	  "Chunks that were not." },
	{ DISK_DAMAGED, "disk_damaged", "disk_cache_damaged_total", NULL,
	  "Chunks on disk that were damaged, and fetched again." },
	{ DISK_STORED, "disk_stored", "disk_cache_stored_total", NULL, "Chunks put on disk." },
	{ DISK_FAILURES, "disk_failures", "disk_cache_failures_total", NULL,
	  "Chunks that could not be put on disk." },
	{ DISK_BYTES, "disk_bytes", "disk_cache_bytes", NULL,
	  "Bytes of chunks on disk, of all mounts that share it." },
	{ SNAPSHOTS_OPENED, "snapshots_opened", "snapshots_opened_total", NULL,
	  "Snapshots opened." },
	{ SNAPSHOTS, "snapshots", "snapshots_open", NULL, "Snapshots that are open." },
	{ ARCHIVES, "archives", "archives_open", NULL, "Archives and images that are open." },
	{ INDEX_BYTES, "index_bytes", "index_bytes", NULL, "Bytes of their indexes." },
	{ NODES, "nodes", "nodes", NULL,
	  "Namespaces, groups, snapshots and their files that are known." },
};

static_assert(sizeof(rows) / sizeof(rows[0]) == NUMBER_COUNT, "a row for each number");

static void gather_disk(struct disk_cache *disk, uint64_t v[NUMBER_COUNT])
{
	struct disk_cache_stats stats;

	if (!disk)
		return;
	disk_cache_stats(disk, &stats);
	v[DISK_HITS] = stats.hits;
	v[DISK_MISSES] = stats.misses;
	v[DISK_DAMAGED] = stats.damaged;
	v[DISK_STORED] = stats.stored;
	v[DISK_FAILURES] = stats.failures;
	v[DISK_BYTES] = stats.bytes;
}

static void gather_snaps(struct snaps *snaps, uint64_t v[NUMBER_COUNT])
{
	struct snaps_stats stats;

	if (!snaps)
		return;
	snaps_stats(snaps, &stats);
	v[SNAPSHOTS_OPENED] = stats.opened;
	v[SNAPSHOTS] = stats.snapshots;
	v[ARCHIVES] = stats.archives;
	v[INDEX_BYTES] = stats.bytes;
	v[NODES] = stats.nodes;
}

static void gather(const struct stats_sources *from, uint64_t v[NUMBER_COUNT])
{
	struct mount *m = from->mount;
	struct chunk_cache_stats cache;
	struct dir_cache_stats folders;
	struct requests_stats requests;
	struct idle_poll_stats idle_poll;
	struct fetch_stats fetch;

	for (int i = 0; i < MOUNT_COUNTERS; i++)
		v[i] = atomic_load_explicit(&m->counters[i], memory_order_relaxed);
	chunk_cache_stats(from->cache, &cache);
	v[CACHE_HITS] = cache.hits;
	v[CACHE_MISSES] = cache.misses;
	v[CACHE_BYTES] = cache.bytes;
	dir_cache_stats(m->folders, &folders);
	v[FOLDER_HITS] = folders.hits;
	v[FOLDER_MISSES] = folders.misses;
	v[FOLDER_BYTES] = folders.bytes;
	requests_stats(m->requests, &requests);
	v[PARKED] = requests.parked;
	v[WAITING] = requests.waiting;
	v[TIMEOUTS] = requests.timeouts;
	v[INTERRUPTS] = requests.interrupts;
	idle_poll_stats(from->idle_poll, &idle_poll);
	v[IDLE_POLLS] = idle_poll.bursts;
	v[IDLE_POLL_US] = idle_poll.us;
	fetch_stats(from->fetch, &fetch);
	v[META_CHUNKS] = fetch.meta_loads;
	v[PAYLOAD_CHUNKS] = fetch.payload_loads;
	v[FETCH_ERRORS] = fetch.errors;
	gather_disk(from->disk, v);
	gather_snaps(m->snaps, v);
}

static bool is_there(const struct stats_sources *from, const struct row *row)
{
	if (row->number >= SNAPSHOTS_OPENED)
		return from->mount->snaps;
	return row->number < DISK_HITS || from->disk;
}

int stats_line(const struct stats_sources *from, struct wbuf *out)
{
	uint64_t v[NUMBER_COUNT];
	const char *gap = "";

	gather(from, v);
	for (size_t i = 0; i < NUMBER_COUNT; i++) {
		if (!is_there(from, &rows[i]))
			continue;
		wbuf_printf(out, "%s%s=%" PRIu64, gap, rows[i].name, v[rows[i].number]);
		gap = " ";
	}
	return out->failed;
}

/* --- Prometheus' text format --- */

static bool ends_with(const char *text, const char *end)
{
	size_t size = strlen(text), end_size = strlen(end);

	return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static void put_label_value(struct wbuf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			wbuf_put_text(out, "\\n");
		else if (*text == '"' || *text == '\\')
			wbuf_printf(out, "\\%c", *text);
		else
			wbuf_put_u8(out, (uint8_t)*text);
	}
}

static void put_head(struct wbuf *out, const char *metric, const char *help)
{
	wbuf_printf(out, "# HELP pxarfs_%s %s\n# TYPE pxarfs_%s %s\n", metric, help, metric,
		    ends_with(metric, "_total") ? "counter" : "gauge");
}

static void put_sample(struct wbuf *out, const char *metric, const char *mount_point,
		       const char *label, uint64_t value)
{
	wbuf_printf(out, "pxarfs_%s{mountpoint=\"", metric);
	put_label_value(out, mount_point);
	wbuf_printf(out, "\"%s%s} %" PRIu64 "\n", label ? "," : "", label ? label : "", value);
}

int stats_metrics(const struct stats_sources *from, const char *mount_point, bool up,
		  struct wbuf *out)
{
	uint64_t v[NUMBER_COUNT];
	const char *metric = "";

	gather(from, v);
	put_head(out, "up", "Whether the mount is served.");
	put_sample(out, "up", mount_point, NULL, up);
	for (size_t i = 0; i < NUMBER_COUNT; i++) {
		const struct row *row = &rows[i];

		if (!is_there(from, row))
			continue;
		if (strcmp(metric, row->metric) != 0)
			put_head(out, row->metric, row->help);
		metric = row->metric;
		put_sample(out, metric, mount_point, row->label, v[row->number]);
	}
	return out->failed;
}
