/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/idle_poll.h"

#include "client/cmd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	POLL_LATENCY_US = 0,
	ANY_LATENCY_US = 2000 * 1000 * 1000, /* the kernel's value for "no wish" */
	US_PER_MS = 1000,
};

struct idle_poll {
	struct idle_poll_params params;

	pthread_mutex_t lock; /* guards all below */
	bool off; /* it is of no use here, or not permitted */
	int fd; /* opened once and kept, without a wish: a wish is then one write; -1: not yet */
	bool held;
	uint64_t period_begin_us;
	unsigned count; /* requests in this period */
	uint64_t held_since_us;
	struct idle_poll_stats stats;
};

int idle_poll_new(struct idle_poll **out, const struct idle_poll_params *params,
		  struct err *err)
{
	struct idle_poll *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	p->params = params ? *params :
			     (struct idle_poll_params){
				     .driver_path = "/sys/devices/system/cpu/cpuidle/current_driver",
				     .device_path = "/dev/cpu_dma_latency",
				     .cpu_count = sysconf(_SC_NPROCESSORS_ONLN),
			     };
	p->fd = -1;
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return 0;
}

void idle_poll_free(struct idle_poll *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		close(p->fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Whether waking a halted CPU leaves the guest.  No such file: no idle driver. */
static bool cpus_halt(const char *driver_path)
{
	static const char name[] = "haltpoll\n";
	char text[sizeof(name)];
	AUTO(fd) int fd = open(driver_path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, text, sizeof(text)) == sizeof(name) - 1 &&
	       memcmp(text, name, sizeof(name) - 1) == 0;
}

static int say(const struct idle_poll *p, int32_t latency_us)
{
	return write(p->fd, &latency_us, sizeof(latency_us)) < 0 ? -errno : 0;
}

static int open_device(struct idle_poll *p)
{
	if (p->params.cpu_count > IDLE_POLL_CPUS_MAX || !cpus_halt(p->params.driver_path))
		return -EOPNOTSUPP;
	p->fd = open(p->params.device_path, O_WRONLY | O_CLOEXEC);
	return p->fd < 0 ? -errno : 0;
}

static void hold(struct idle_poll *p, uint64_t now_us)
{
	int rc = p->fd < 0 ? open_device(p) : 0;

	if (rc == 0)
		rc = say(p, POLL_LATENCY_US);
	if (rc < 0) {
		p->off = true;
		if (rc != -EOPNOTSUPP)
			log_debug("idle CPUs halt: %s: %s", p->params.device_path, strerror(-rc));
		return;
	}
	p->held = true;
	p->held_since_us = now_us;
	p->stats.bursts++;
}

static void let_go(struct idle_poll *p, uint64_t now_us)
{
	p->held = false;
	p->stats.us += now_us - p->held_since_us;
	if (say(p, ANY_LATENCY_US) == 0)
		return;
	close(p->fd); /* which always ends it */
	p->fd = -1;
	p->off = true;
}

/* When a period is over: was it one of a burst? */
static void turn_period(struct idle_poll *p, uint64_t now_us)
{
	uint64_t passed_us = now_us - p->period_begin_us;

	if (now_us < p->period_begin_us || passed_us < IDLE_POLL_PERIOD_US)
		return;
	if (p->held && (p->count < IDLE_POLL_REQUESTS_MIN || passed_us >= 2 * IDLE_POLL_PERIOD_US))
		let_go(p, now_us);
	p->period_begin_us = now_us;
	p->count = 0;
}

void idle_poll_request(struct idle_poll *p, uint64_t now_us)
{
	pthread_mutex_lock(&p->lock);
	if (!p->off) {
		turn_period(p, now_us);
		p->count++;
		if (!p->held && p->count == IDLE_POLL_REQUESTS_MIN)
			hold(p, now_us);
	}
	pthread_mutex_unlock(&p->lock);
}

int idle_poll_wait_ms(struct idle_poll *p, uint64_t now_us)
{
	int wait_ms = -1;

	pthread_mutex_lock(&p->lock);
	if (p->held)
		turn_period(p, now_us);
	if (p->held)
		wait_ms = IDLE_POLL_PERIOD_US / US_PER_MS;
	pthread_mutex_unlock(&p->lock);
	return wait_ms;
}

void idle_poll_stats(struct idle_poll *p, struct idle_poll_stats *out)
{
	*out = (struct idle_poll_stats){ 0 };
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	*out = p->stats;
	pthread_mutex_unlock(&p->lock);
}
