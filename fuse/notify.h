/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify - tell who started us how we are: systemd's readiness protocol (sd_notify(3)), a
 * datagram of "NAME=value" lines to the socket that $NOTIFY_SOCKET names.
 */
#ifndef PXARFS_NOTIFY_H
#define PXARFS_NOTIFY_H

/* 0, also where nobody wants to hear it; a negative errno when it could not be told: -EAGAIN, not
 * within `wait_ms`. */
int notify_send(const char *text, unsigned wait_ms);

#endif
