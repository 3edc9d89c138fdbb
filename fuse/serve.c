/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/serve.h"

#include "client/base/wait.h"
#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/log.h"
#include "client/repo/repo_name.h"
#include "fuse/bdi.h"
#include "fuse/idle_poll.h"
#include "fuse/inode.h"
#include "fuse/loop.h"
#include "fuse/metrics.h"
#include "fuse/mount.h"
#include "fuse/ops.h"
#include "fuse/session.h"
#include "fuse/snaps.h"
#include "fuse/stats.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statfs.h>

enum {
	/* Started when there is work for them, and most of them wait for the repository: how
	 * much is asked for at a time is decided elsewhere. */
	FETCH_THREADS = 32,
	/* Of the cache's bytes, what sorted folders may take: one in so many. */
	FOLDERS_SHARE = 8,
	/* One folder may take this much (8 million members), or all of a larger cache's bytes. */
	FOLDER_BYTES_MAX = 256 << 20,
	READY_SECONDS_MAX = 30,
	PROVE_MS = 2000, /* how long a mount waits for what is in the repository */
	/* The end: for requests that are being answered, then for loads that hang. */
	STOP_MS = 300,
	/* For who tells the kernel something, once no request can hold him up. */
	ABORT_MS = 10 * 1000,
	TEAR_DOWN_MS = 400,
	SOURCE_SIZE_MAX = 8192,
	FILES_WANTED = 4096, /* descriptors */
	MMAP_SIZE_MIN = 1 << 20,
};

struct server {
	const struct serve_params *params;
	char source[SOURCE_SIZE_MAX]; /* for /proc/mounts */
	pthread_t main;
	struct repo *repo;
	struct crypt_key *key; /* NULL: none in use */
	struct chunk_cache *cache;
	struct disk_cache *disk; /* NULL: none */
	struct fetch *fetch;
	struct session session;
	struct idle_poll *idle_poll; /* NULL: not wanted */
	struct loop *loop;
	struct metrics *metrics; /* NULL: none are kept */
	struct mount mount;
	int failure; /* why it never was ready, or 0 */
	struct err failure_err;
};

/* --- set up --- */

static int open_snapshot(struct server *s, struct err *err)
{
	const struct serve_params *p = s->params;
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	struct snapshot_name name;
	int rc = repo_open(p->repository, &s->repo, err);

	if (rc == 0)
		rc = repo_resolve(s->repo, p->snapshot, p->ns ? p->ns : "", &name, err);
	if (rc == 0)
		rc = repo_read(s->repo, &name, &reader, err);
	if (rc == 0)
		rc = keys_open_archive(&s->mount.single.archive, s->fetch, reader, &s->key,
				       p->archive, err);
	if (rc)
		return rc;
	steal(&reader); /* the archive's now */
	snprintf(s->source, sizeof(s->source), "%s::%s%s%s%s/%s", s->repo->spelling,
		 name.group.ns[0] ? "ns/" : "", name.group.ns, name.group.ns[0] ? "/" : "",
		 p->snapshot, p->archive);
	return 0;
}

/* A repository that holds snapshots made with a key may be mounted without it: these can then
 * only be looked at from outside. */
static void find_key(struct server *s)
{
	struct err err = ERR_INIT;
	int rc = s->key ? 0 : keys_default(&s->key, &err);

	if (rc < 0)
		log_warn("encrypted snapshots cannot be read: the default key: %s",
			 err_text(&err, rc));
}

static void name_source(struct server *s, const char *ns, const char *snapshot)
{
	snprintf(s->source, sizeof(s->source), "%s%s%s%s%s%s", s->repo->spelling,
		 ns[0] || snapshot[0] ? "::" : "", ns[0] ? "ns/" : "", ns,
		 ns[0] && snapshot[0] ? "/" : "", snapshot);
}

/* Each open snapshot has a few descriptors. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FILES_WANTED) {
		limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void on_repo_warning(void *arg, const char *message)
{
	(void)arg;
	log_warn("%s", message);
}

/* A repository that refuses is known before there is a mount.  One that only takes its time is
 * mounted all the same: who looks at it waits, and can be interrupted. */
static int prove(struct server *s, struct err *err)
{
	int rc = snaps_prove(s->mount.snaps, PROVE_MS, err);

	if (rc != -EAGAIN)
		return rc;
	log_warn("%s: it is slow to answer; mounted before it is known what is there", s->source);
	return 0;
}

/* Many archives: those of one snapshot, or of all that a namespace has. */
static int open_many(struct server *s, struct err *err)
{
	const struct serve_params *p = s->params;
	struct snapshot_name name;
	struct snaps_params params = { .fetch = s->fetch,
				       .ns = p->ns ? p->ns : "",
				       .snapshot = p->snapshot ? &name : NULL,
				       .refresh_ms = p->opts.refresh_ms,
				       .readahead_bytes = p->opts.readahead_bytes,
				       .open_max = SNAPS_OPEN_MAX,
				       .idle_ms = SNAPS_IDLE_MS,
				       .bytes_max = SNAPS_BYTES_MAX };
	int rc;

	if (p->opts.exported)
		return err_set(err, EOPNOTSUPP, "-o export: file handles are for a mount of one "
			       "archive; numbers of many do not outlast a mount");
	rc = repo_open(p->repository, &s->repo, err);
	if (rc == 0 && p->snapshot)
		rc = repo_resolve(s->repo, p->snapshot, params.ns, &name, err);
	if (rc < 0)
		return rc;
	s->repo->warning = on_repo_warning;
	raise_file_limit();
	find_key(s);
	params.repo = s->repo;
	params.key = s->key;
	name_source(s, params.ns, p->snapshot ? p->snapshot : "");
	rc = snaps_new(&s->mount.snaps, &params, err);
	return rc < 0 ? rc : prove(s, err);
}

/* No index speaks for a plain file, so its root is looked at before it is said to be mounted. */
static int open_file(struct server *s, struct err *err)
{
	const char *path = s->params->file;
	const struct tree *tree;
	int rc = archive_open_file(&s->mount.single.archive, s->fetch, path, err);

	if (rc == 0)
		rc = archive_tree(s->mount.single.archive, &tree, err);
	snprintf(s->source, sizeof(s->source), "%s", path);
	return rc;
}

static int open_archive(struct server *s, struct err *err)
{
	int rc = s->params->file ? open_file(s, err) : open_snapshot(s, err);

	if (rc < 0)
		return rc;
	if (stream_size(archive_meta(s->mount.single.archive)) > INODE_OFFSET_MAX)
		return err_set(err, E2BIG, "%s is larger than an inode number can tell",
			       archive_display_name(s->mount.single.archive));
	return 0;
}

static void warn(const char *text)
{
	log_warn("%s", text);
}

static int open_disk_cache(struct server *s, struct err *err)
{
	const struct mount_opts *o = &s->params->opts;
	const struct disk_cache_params params = { .path = o->cache_dir,
						  .bytes_max = o->cache_dir_bytes,
						  .warn = warn };
	int rc;

	if (!o->cache_dir[0])
		return 0;
	rc = disk_cache_open(&s->disk, &params, err);
	if (rc < 0)
		return err_wrap(err, rc, "cache_dir");
	fetch_set_disk_cache(s->fetch, s->disk);
	return 0;
}

static bool is_many(const struct server *s)
{
	return !s->params->file && !s->params->archive;
}

/* The archive of a mount that shows just one. */
static int open_single(struct server *s, struct err *err)
{
	struct shown *single = &s->mount.single;
	int rc = open_archive(s, err);

	if (rc < 0)
		return rc;
	archive_set_readahead(single->archive, s->params->opts.readahead_bytes);
	single->name = archive_display_name(single->archive);
	single->nlink = nlink_new(single->archive);
	return single->nlink ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int set_up(struct server *s, struct err *err)
{
	size_t bytes = s->params->opts.cache_bytes;
	int rc;

	s->cache = chunk_cache_new(bytes - bytes / FOLDERS_SHARE);
	s->fetch = s->cache ? fetch_new(s->cache, FETCH_THREADS) : NULL;
	s->mount.fetch = s->fetch;
	s->mount.folders = dir_cache_new(bytes / FOLDERS_SHARE,
					 bytes < FOLDER_BYTES_MAX ? FOLDER_BYTES_MAX : bytes);
	if (!s->fetch || !s->mount.folders)
		return err_set(err, ENOMEM, "out of memory");
	rc = open_disk_cache(s, err);
	if (rc == 0)
		rc = is_many(s) ? open_many(s, err) : open_single(s, err);
	if (rc < 0)
		return rc;
	return requests_new(&s->mount.requests, &s->mount, s->params->opts.timeout_ms, err);
}

/* On a reader's thread: the kernel ended the connection. */
static void on_end(void *arg)
{
	struct server *s = arg;

	sem_post(&s->mount.ready);
	pthread_kill(s->main, SIGINT);
}

/* Wait for the kernel's first request, which comes with the mount. */
static int await_ready(struct server *s, struct err *err)
{
	struct timespec until = wait_until(CLOCK_REALTIME, READY_SECONDS_MAX * 1000);

	while (sem_timedwait(&s->mount.ready, &until) < 0)
		if (errno != EINTR)
			return err_set(err, EIO, "the kernel does not answer");
	return 0;
}

/* The kernel sets its read-ahead when it gets INIT's answer, so not before that; a statfs, which
 * we answer out of our head, comes back after it. */
static void raise_read_ahead(struct server *s)
{
	size_t kb = s->params->opts.readahead_bytes >> 10;
	struct statfs st;
	int rc;

	if (kb == 0 || !s->session.device || statfs(s->params->mount_point, &st) < 0)
		return;
	rc = bdi_raise(s->session.device,
		       kb < BDI_READ_AHEAD_KB ? (unsigned)kb : BDI_READ_AHEAD_KB);
	if (rc < 0)
		log_debug("the kernel's read-ahead stays as it is: %s", strerror(-rc));
}

static int begin_push(struct server *s, struct err *err)
{
	const struct push_params params = { .mount = &s->mount,
					    .session = s->session.fuse,
					    .window_max = s->params->opts.push_max };

	return params.window_max ? push_new(&s->mount.push, &params, err) : 0;
}

static struct stats_sources sources(struct server *s)
{
	return (struct stats_sources){
		.mount = &s->mount,
		.cache = s->cache,
		.disk = s->disk,
		.fetch = s->fetch,
		.idle_poll = s->idle_poll,
	};
}

static int metrics_text(void *arg, bool up, struct wbuf *out)
{
	struct server *s = arg;
	const struct stats_sources from = sources(s);

	return stats_metrics(&from, s->params->mount_point, up, out);
}

static int begin_metrics(struct server *s, struct err *err)
{
	const struct metrics_params params = { .path = s->params->opts.metrics,
					       .interval_ms = METRICS_INTERVAL_MS,
					       .text = metrics_text,
					       .arg = s,
					       .warn = warn };
	int rc = params.path[0] ? metrics_new(&s->metrics, &params, err) : 0;

	return rc < 0 ? err_wrap(err, rc, "metrics") : 0;
}

/* Whoever waits for a repository that does not answer can interrupt it.  Not cancelled but told when
 * it is over: a cancelled thread leaves its frames to no one, which the sanitizers take ill. */
struct interrupt_watch {
	struct server *server;
	int signal_fd;
	int over_fd; /* an eventfd */
};

static void *await_interrupt(void *arg)
{
	const struct interrupt_watch *w = arg;
	struct pollfd fds[2] = { { .fd = w->over_fd, .events = POLLIN },
				 { .fd = w->signal_fd, .events = POLLIN } };
	struct err err = ERR_INIT;

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		continue;
	if (fds[0].revents)
		return NULL;
	err_set(&err, EINTR, "interrupted before it was mounted");
	w->server->params->failed(w->server->params->arg, -EINTR, &err);
	_exit(EXIT_FAILED);
}

static int set_up_or_end(struct server *s, struct err *err)
{
	sigset_t signals;
	pthread_t watcher;
	int rc;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	AUTO(fd) int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	AUTO(fd) int over_fd = eventfd(0, EFD_CLOEXEC);
	if (signal_fd < 0 || over_fd < 0)
		return err_sys(err, errno, "waiting for signals");

	struct interrupt_watch watch = { s, signal_fd, over_fd };
	rc = pthread_create(&watcher, NULL, await_interrupt, &watch);
	if (rc)
		return err_sys(err, rc, "cannot start a thread");
	rc = set_up(s, err);
	eventfd_write(over_fd, 1);
	pthread_join(watcher, NULL);
	return rc;
}

static int begin_loop(struct server *s, struct err *err)
{
	const struct loop_params loop = { .reader_count = s->params->opts.reader_count,
					  .spin_us = LOOP_SPIN_US,
					  .idle_poll = s->idle_poll,
					  .ended = on_end,
					  .arg = s };

	return loop_start(&s->loop, s->session.fuse, &loop, err);
}

/* From now on `session` may be told things by others than the loop; NULL: by nobody. */
static bool set_told(struct server *s, struct fuse_session *session, unsigned wait_ms)
{
	struct timespec until = wait_until(CLOCK_REALTIME, wait_ms);

	if (pthread_mutex_timedlock(&s->mount.told_lock, &until) != 0)
		return false;
	s->mount.told = session;
	pthread_mutex_unlock(&s->mount.told_lock);
	return true;
}

static int begin(struct server *s, struct err *err)
{
	int rc = set_up_or_end(s, err);

	if (rc == 0 && s->params->opts.idle_poll)
		rc = idle_poll_new(&s->idle_poll, NULL, err);

	if (rc == 0)
		rc = begin_metrics(s, err);
	if (rc == 0)
		rc = session_new(&s->session, &s->params->opts, s->source, "pxarfs",
				 is_many(s) ? &ops_repo_table : &ops_table, &s->mount, err);
	if (rc == 0)
		rc = session_mount(&s->session, s->params->mount_point, err);
	if (rc == 0) {
		set_told(s, s->session.fuse, STOP_MS);
		rc = begin_push(s, err);
	}
	if (rc == 0 && s->mount.snaps)
		rc = snaps_start(s->mount.snaps, &s->mount, err);
	if (rc == 0)
		rc = begin_loop(s, err);
	if (rc == 0)
		rc = await_ready(s, err);
	if (rc == 0)
		raise_read_ahead(s);
	return rc;
}

/* --- serve --- */

/* mount.pxarfs(8) says what the numbers mean. */
static void log_statistics(struct server *s)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(STATS_TEXT_SIZE_MAX);
	const struct stats_sources from = sources(s);

	stats_line(&from, &text);
	wbuf_put_u8(&text, 0);
	if (!text.failed)
		log_info("statistics: %s", text.data);
	if (s->metrics)
		metrics_now(s->metrics);
}

static void block_signals(sigset_t *set)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGPIPE };

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(set, signals[i]);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void await_end(struct server *s, const sigset_t *signals)
{
	int signal;

	for (;;) {
		if (sigwait(signals, &signal) != 0)
			continue;
		if (signal == SIGTERM || signal == SIGINT)
			return;
		if (signal == SIGUSR1)
			log_statistics(s);
	}
}

/* --- tear down --- */

static void *release(void *arg)
{
	struct server *s = arg;

	push_free(s->mount.push);
	metrics_free(s->metrics);
	idle_poll_free(s->idle_poll);
	snaps_free(s->mount.snaps);
	nlink_free(s->mount.single.nlink);
	requests_free(s->mount.requests);
	dir_cache_free(s->mount.folders);
	archive_free(s->mount.single.archive);
	crypt_key_free(s->key);
	fetch_free(s->fetch);
	disk_cache_free(s->disk);
	chunk_cache_free(s->cache);
	repo_free(s->repo);
	return NULL;
}

/* Something hangs that cannot be waited for: it ends with the process. */
static void end_process(struct server *s)
{
	if (s->failure)
		s->params->failed(s->params->arg, s->failure, &s->failure_err);
	_exit(s->failure ? EXIT_FAILED : EXIT_DONE);
}

/* A load may hang in the repository. */
static void release_or_exit(struct server *s)
{
	pthread_t thread;

	if (s->fetch)
		fetch_stop(s->fetch);
	if (s->mount.snaps)
		snaps_abort(s->mount.snaps);
	if (s->mount.single.archive && archive_reader(s->mount.single.archive))
		repo_reader_abort(archive_reader(s->mount.single.archive));
	if (pthread_create(&thread, NULL, release, s) != 0 ||
	    !wait_join(thread, TEAR_DOWN_MS))
		end_process(s);
}

/* Before anything goes that it counts.  One that hangs is left behind. */
static bool end_metrics(struct server *s)
{
	if (!s->metrics)
		return true;
	metrics_stop(s->metrics);
	return metrics_join(s->metrics, STOP_MS);
}

/* Nobody tells the kernel anything any more. */
static bool is_silent(struct server *s, unsigned wait_ms)
{
	bool pushes = s->mount.push && !push_join(s->mount.push, wait_ms);

	return !pushes && set_told(s, NULL, wait_ms);
}

/* Who tells the kernel something may wait there, for the page or the folder of a request that is
 * parked, or has not been taken yet; and the unmount would wait for him.  So what is parked is
 * answered, and the loop goes on, until all of them are done. */
static bool silence(struct server *s)
{
	if (s->mount.push)
		push_stop(s->mount.push);
	if (s->mount.snaps)
		snaps_stop(s->mount.snaps);
	if (s->mount.single.nlink)
		nlink_stop(s->mount.single.nlink);
	if (s->mount.requests)
		requests_stop(s->mount.requests, 0);
	if (is_silent(s, STOP_MS))
		return true;
	session_abort(&s->session);
	return is_silent(s, ABORT_MS);
}

static void tear_down(struct server *s)
{
	bool is_quiet = silence(s), idle = is_quiet;

	idle &= loop_join(s->loop, STOP_MS);
	idle &= !s->mount.snaps || snaps_join(s->mount.snaps, STOP_MS);
	idle &= end_metrics(s);
	idle &= !s->mount.requests || requests_stop(s->mount.requests, STOP_MS);
	if (!idle) {
		/* Somebody still uses the session; unmount past it, and its end goes with us. */
		if (is_quiet)
			session_unmount(&s->session);
		end_process(s);
	}
	loop_free(s->loop);
	session_release(&s->session);
	release_or_exit(s);
	pthread_mutex_destroy(&s->mount.starts.lock);
	pthread_mutex_destroy(&s->mount.told_lock);
	sem_destroy(&s->mount.ready);
}

int serve(const struct serve_params *params)
{
	AUTO(free) struct server *s = calloc(1, sizeof(*s));
	sigset_t signals;
	struct err err = ERR_INIT;
	int rc;

	if (!s) {
		rc = err_set(&err, ENOMEM, "out of memory");
		params->failed(params->arg, rc, &err);
		return rc;
	}
	/* Threads that come and go with their own heaps would each keep what they freed. */
	mallopt(M_ARENA_MAX, 2);
	/* What is large goes back to the system when it is freed. */
	mallopt(M_MMAP_THRESHOLD, MMAP_SIZE_MIN);
	s->params = params;
	s->key = params->key;
	s->mount.guise = params->opts.guise;
	s->mount.exported = params->opts.exported;
	s->main = pthread_self();
	sem_init(&s->mount.ready, 0, 0);
	pthread_mutex_init(&s->mount.starts.lock, NULL);
	pthread_mutex_init(&s->mount.told_lock, NULL);
	block_signals(&signals);
	log_never_wait();
	rc = s->failure = begin(s, &s->failure_err);
	if (rc == 0) {
		params->ready(params->arg);
		await_end(s, &signals);
		params->stopping(params->arg);
	}
	tear_down(s);
	if (rc < 0)
		params->failed(params->arg, rc, &s->failure_err);
	return rc;
}
