/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/losses.h"

#include "client/cmd/log.h"

#include <stdlib.h>
#include <string.h>

void losses_release(struct losses *l)
{
	for (size_t i = 0; i < l->listed; i++)
		free(l->texts[i]);
	free(l->texts);
	pthread_mutex_destroy(&l->lock);
}

void losses_add(struct losses *l, const char *text)
{
	pthread_mutex_lock(&l->lock);
	l->total++;
	if (!l->texts)
		l->texts = calloc(LOSSES_LISTED_MAX, sizeof(*l->texts));
	if (l->texts && l->listed < LOSSES_LISTED_MAX) {
		l->texts[l->listed] = strdup(text);
		l->listed += l->texts[l->listed] != NULL;
	}
	pthread_mutex_unlock(&l->lock);
}

void losses_print(struct losses *l)
{
	pthread_mutex_lock(&l->lock);
	if (l->total)
		log_warn("not, or not wholly, in the snapshot:");
	for (size_t i = 0; i < l->listed; i++)
		log_warn("  %s", l->texts[i]);
	if (l->total > l->listed)
		log_warn("  and %zu more", l->total - l->listed);
	pthread_mutex_unlock(&l->lock);
}
