/* SPDX-License-Identifier: Apache-2.0 */
#include "client/net/curl_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static const char soname[] = "libcurl.so.4";

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct err failure; /* written once; empty: all went well */

struct curl_lib curl_lib;

/* POSIX has it that an object pointer from dlsym() can be made a function's. */
static bool find(void *handle, const char *name, void *function)
{
	void *symbol = dlsym(handle, name);

	memcpy(function, &symbol, sizeof(symbol));
	return symbol;
}

static void load(void)
{
	void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	__typeof__(curl_global_init) *global_init;

	if (!handle ||
	    !(find(handle, "curl_global_init", &global_init) &&
	      find(handle, "curl_easy_cleanup", &curl_lib.easy_cleanup) &&
	      find(handle, "curl_easy_getinfo", &curl_lib.easy_getinfo) &&
	      find(handle, "curl_easy_init", &curl_lib.easy_init) &&
	      find(handle, "curl_easy_perform", &curl_lib.easy_perform) &&
	      find(handle, "curl_easy_setopt", &curl_lib.easy_setopt) &&
	      find(handle, "curl_easy_strerror", &curl_lib.easy_strerror) &&
	      find(handle, "curl_slist_append", &curl_lib.slist_append) &&
	      find(handle, "curl_slist_free_all", &curl_lib.slist_free_all) &&
	      find(handle, "curl_version", &curl_lib.version)))
		err_set(&failure, EOPNOTSUPP, "a server needs libcurl: %s", dlerror());
	else if (global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		err_set(&failure, EOPNOTSUPP, "libcurl does not start");
}

int curl_lib_load(struct err *err)
{
	pthread_once(&once, load);
	return failure.text[0] ? err_set(err, EOPNOTSUPP, "%s", failure.text) : 0;
}
