/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl_lib - libcurl, loaded when a server is first asked.
 *
 * It brings 25 more libraries along (LDAP, SSH, Kerberos, RTMP).  To load them takes half of a
 * command's start, 2.6 ms of some 5, and most commands and mounts read a directory.  So the
 * program is not linked with it: what of it is used is called through here.
 *
 * Threads: any number.
 */
#ifndef PXARFS_CURL_LIB_H
#define PXARFS_CURL_LIB_H

#include "archive/base/err.h"

#include <curl/curl.h>

/* The functions of those names, with "curl_" before them. */
struct curl_lib {
	__typeof__(curl_easy_cleanup) *easy_cleanup;
	__typeof__(curl_easy_getinfo) *easy_getinfo;
	__typeof__(curl_easy_init) *easy_init;
	__typeof__(curl_easy_perform) *easy_perform;
	__typeof__(curl_easy_setopt) *easy_setopt;
	__typeof__(curl_easy_strerror) *easy_strerror;
	__typeof__(curl_slist_append) *slist_append;
	__typeof__(curl_slist_free_all) *slist_free_all;
	__typeof__(curl_version) *version;
};

/* To be called through once curl_lib_load() has returned 0. */
extern struct curl_lib curl_lib;

/* Does so once.  -EOPNOTSUPP: there is no libcurl, or it does not start. */
int curl_lib_load(struct err *err);

#endif
