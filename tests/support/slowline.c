/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slowline - a TCP port of loopback, some way off.
 *
 *	slowline PORT MS
 *
 * It prints a port of its own; what comes there goes on to PORT, and back, each byte half of MS
 * later.  It holds whatever comes meanwhile: how much is on the way, its ends decide.
 */
#include "archive/base/cleanup.h"
#include "client/base/clock.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

enum { PIECE_SIZE = 256 << 10 };

struct piece {
	struct piece *next;
	int64_t due_ns;
	size_t begin, end;
	char bytes[PIECE_SIZE];
};

/* One direction. */
struct way {
	int from, to;
	struct piece *first, **last;
	bool has_end, is_over; /* what comes has ended; and has been told */
};

static int64_t delay_ns; /* of one direction */
static uint16_t server_port;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* Take what there is, once. */
static void take(struct way *w)
{
	struct piece *p = malloc(sizeof(*p));
	ssize_t n;

	must(p, "slowline");
	n = recv(w->from, p->bytes, sizeof(p->bytes), MSG_DONTWAIT);
	if (n <= 0) {
		free(p);
		w->has_end = n == 0 || (errno != EAGAIN && errno != EINTR);
		return;
	}
	p->next = NULL;
	p->due_ns = clock_now_ns() + delay_ns;
	p->begin = 0;
	p->end = (size_t)n;
	*w->last = p;
	w->last = &p->next;
}

/* Give what is due.  False: nobody takes it any more. */
static bool give(struct way *w)
{
	while (w->first && w->first->due_ns <= clock_now_ns()) {
		struct piece *p = w->first;
		ssize_t n = send(w->to, p->bytes + p->begin, p->end - p->begin,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		p->begin += (size_t)n;
		if (p->begin < p->end)
			return true;
		w->first = p->next;
		if (!w->first)
			w->last = &w->first;
		free(p);
	}
	if (!w->first && w->has_end && !w->is_over) {
		shutdown(w->to, SHUT_WR);
		w->is_over = true;
	}
	return true;
}

/* Until something has come, can be given, or is due. */
static void await(const struct way ways[2])
{
	int64_t now = clock_now_ns(), wait_ns = INT64_MAX;
	struct pollfd fds[4];

	for (int i = 0; i < 2; i++) {
		const struct way *w = &ways[i];
		bool is_due = w->first && w->first->due_ns <= now;

		fds[2 * i] = (struct pollfd){ .fd = w->has_end ? -1 : w->from, .events = POLLIN };
		fds[2 * i + 1] = (struct pollfd){ .fd = is_due ? w->to : -1, .events = POLLOUT };
		if (w->first && !is_due && w->first->due_ns - now < wait_ns)
			wait_ns = w->first->due_ns - now;
	}
	struct timespec t = { .tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000 };
	must(ppoll(fds, 4, wait_ns == INT64_MAX ? NULL : &t, NULL) >= 0 || errno == EINTR, "ppoll");
}

static int connect_server(void)
{
	const struct sockaddr_in address = { .sin_family = AF_INET,
					     .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
					     .sin_port = htons(server_port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0,
	     "slowline: the server");
	return fd;
}

static void *carry(void *arg)
{
	int client = (int)(intptr_t)arg, server = connect_server();
	struct way ways[2] = { { .from = client, .to = server }, { .from = server, .to = client } };
	const int one = 1;

	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (int i = 0; i < 2; i++)
		ways[i].last = &ways[i].first;
	while (!ways[0].is_over || !ways[1].is_over) {
		bool is_good = true;

		await(ways);
		for (int i = 0; i < 2; i++) {
			if (!ways[i].has_end)
				take(&ways[i]);
			is_good = give(&ways[i]) && is_good;
		}
		if (!is_good)
			break;
	}
	for (int i = 0; i < 2; i++)
		while (ways[i].first) {
			struct piece *p = ways[i].first;

			ways[i].first = p->next;
			free(p);
		}
	close(client);
	close(server);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 3) {
		fprintf(stderr, "usage: slowline PORT MS\n");
		return 2;
	}
	server_port = (uint16_t)strtoul(argv[1], NULL, 10);
	delay_ns = strtoll(argv[2], NULL, 10) * 1000000 / 2;
	must(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 64) == 0 &&
		     getsockname(fd, (struct sockaddr *)&address, &size) == 0,
	     "slowline: no socket");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;) {
		int client = accept(fd, NULL, NULL);
		pthread_t thread;

		must(client >= 0 && pthread_create(&thread, NULL, carry, (void *)(intptr_t)client) == 0,
		     "slowline: accept");
		pthread_detach(thread);
	}
}
