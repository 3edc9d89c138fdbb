/* SPDX-License-Identifier: Apache-2.0 */
/* Gates, faults and counts. */
#include "tests/support/lib/repo_memory_priv.h"

static bool matches(const struct memory_match *match, enum repo_memory_call call,
		    const char *file, const struct digest *chunk)
{
	if (match->call != call)
		return false;
	if (match->file && (!file || strcmp(match->file, file) != 0))
		return false;
	return match->any_chunk || (chunk && digest_equal(&match->chunk, chunk));
}

static struct memory_match match_copy(const struct repo_memory_match *match)
{
	struct memory_match copy = { .call = match->call, .any_chunk = !match->chunk };

	if (match->file)
		copy.file = memory_copy(match->file, strlen(match->file) + 1);
	if (match->chunk)
		copy.chunk = *match->chunk;
	return copy;
}

/* --- counts; under m->lock --- */

/* The one copy of a name that records point to. */
static const char *intern(struct repo_memory *m, const char *name)
{
	if (!memory_file_find(m->names, name))
		memory_file_put(&m->names, name, "", 0);
	return memory_file_find(m->names, name)->name;
}

static void record(struct repo_memory *m, enum repo_memory_call call, const char *file,
		   const struct digest *chunk)
{
	struct memory_record *r;

	if (m->record_count == m->record_capacity) {
		m->record_capacity = m->record_capacity ? 2 * m->record_capacity : 64;
		m->records = realloc(m->records, m->record_capacity * sizeof(*m->records));
		if (!m->records)
			abort();
	}
	r = &m->records[m->record_count++];
	*r = (struct memory_record){ .call = call, .file = file ? intern(m, file) : NULL };
	if (chunk)
		r->chunk = *chunk;
	pthread_cond_broadcast(&m->changed);
}

static bool names_chunk(enum repo_memory_call call)
{
	return call == REPO_MEMORY_GET_CHUNK || call == REPO_MEMORY_PUT_CHUNK ||
	       call == REPO_MEMORY_REUSE_CHUNK;
}

static size_t count(struct repo_memory *m, const struct memory_match *match)
{
	size_t n = 0;

	for (size_t i = 0; i < m->record_count; i++) {
		const struct memory_record *r = &m->records[i];

		n += matches(match, r->call, r->file, names_chunk(r->call) ? &r->chunk : NULL);
	}
	return n;
}

/* --- what a call meets --- */

static int check_alive(struct repo_memory *m, const bool *aborted, struct err *err)
{
	if (aborted && *aborted)
		return err_set(err, ECANCELED, "the session was aborted");
	if (m->gone)
		return err_set(err, EIO, "the store is gone");
	return 0;
}

static bool may_pass(struct repo_memory_gate *gate)
{
	if (gate->is_open)
		return true;
	if (gate->passes == 0)
		return false;
	gate->passes--;
	return true;
}

static int stand_at_gate(struct repo_memory *m, struct repo_memory_gate *gate,
			 const bool *aborted, struct err *err)
{
	int rc;

	gate->waiting++;
	pthread_cond_broadcast(&m->changed);
	while ((rc = check_alive(m, aborted, err)) == 0 && !may_pass(gate))
		pthread_cond_wait(&m->changed, &m->lock);
	gate->waiting--;
	return rc;
}

/* The fault that takes effect now, or NULL. */
static struct memory_fault *next_fault(struct repo_memory *m, enum repo_memory_call call,
				       const char *file, const struct digest *chunk)
{
	for (struct memory_fault *f = m->faults; f; f = f->next) {
		if (!matches(&f->match, call, file, chunk))
			continue;
		if (f->skip > 0) {
			f->skip--;
			continue;
		}
		if (!f->endless && f->count == 0)
			continue;
		if (!f->endless)
			f->count--;
		return f;
	}
	return NULL;
}

int memory_enter(struct repo_memory *m, const bool *aborted, enum repo_memory_call call,
		 const char *file, const struct digest *chunk, struct memory_effect *effect,
		 struct err *err)
{
	struct memory_fault *fault;
	int rc;

	record(m, call, file, chunk);
	for (struct repo_memory_gate *gate = m->gates; gate; gate = gate->next) {
		if (!matches(&gate->match, call, file, chunk))
			continue;
		rc = stand_at_gate(m, gate, aborted, err);
		if (rc < 0)
			return rc;
	}
	rc = check_alive(m, aborted, err);
	if (rc < 0)
		return rc;
	*effect = (struct memory_effect){ .size_max = SIZE_MAX };
	fault = next_fault(m, call, file, chunk);
	if (!fault)
		return 0;
	if (fault->damage == REPO_MEMORY_FAIL)
		return err_sys(err, (int)fault->value, "scripted failure");
	if (fault->damage == REPO_MEMORY_TRUNCATE)
		effect->size_max = fault->value;
	else
		*effect = (struct memory_effect){ SIZE_MAX, true, fault->value };
	return 0;
}

int memory_deliver(struct repo_memory *m, const struct memory_effect *effect, const void *data,
		   size_t size, struct wbuf *out, struct err *err)
{
	size_t begin = out->size;

	if (size > effect->size_max)
		size = effect->size_max;
	if (wbuf_put(out, data, size) < 0)
		return err_sys(err, -out->failed, "no room for %zu bytes", size);
	if (effect->flip && effect->flip_at < size)
		out->data[begin + effect->flip_at] ^= 1;
	m->bytes_read += size;
	return 0;
}

static void release_file(struct repo_file *f)
{
	free((void *)f->data);
}

int memory_deliver_file(struct repo_memory *m, const struct memory_effect *effect,
			const struct memory_file *file, struct repo_file *out, struct err *err)
{
	AUTO(wbuf) struct wbuf bytes = WBUF_INIT(REPO_FILE_SIZE_MAX);
	int rc = memory_deliver(m, effect, file->data, file->size, &bytes, err);

	if (rc < 0)
		return rc;
	out->data = wbuf_detach(&bytes, &out->size);
	out->release = release_file;
	return 0;
}

/* --- the script --- */

struct repo_memory_gate *repo_memory_gate(struct repo *r, const struct repo_memory_match *match)
{
	struct repo_memory_gate *gate = memory_alloc(sizeof(*gate));
	struct repo_memory *m = memory_of(r);

	gate->memory = m;
	gate->match = match_copy(match);
	pthread_mutex_lock(&m->lock);
	gate->next = m->gates;
	m->gates = gate;
	pthread_mutex_unlock(&m->lock);
	return gate;
}

void repo_memory_gate_await(struct repo_memory_gate *g, size_t waiting)
{
	struct repo_memory *m = g->memory;

	pthread_mutex_lock(&m->lock);
	while (g->waiting < waiting)
		pthread_cond_wait(&m->changed, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

static void gate_set(struct repo_memory_gate *g, bool is_open, size_t passes)
{
	struct repo_memory *m = g->memory;

	pthread_mutex_lock(&m->lock);
	g->is_open = is_open;
	g->passes = passes;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_gate_let(struct repo_memory_gate *g, size_t passes)
{
	struct repo_memory *m = g->memory;

	pthread_mutex_lock(&m->lock);
	g->passes += passes;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_gate_open(struct repo_memory_gate *g)
{
	gate_set(g, true, 0);
}

void repo_memory_gate_close(struct repo_memory_gate *g)
{
	gate_set(g, false, 0);
}

void repo_memory_add_fault(struct repo *r, const struct repo_memory_fault *fault)
{
	struct memory_fault *f = memory_alloc(sizeof(*f)), **end;
	struct repo_memory *m = memory_of(r);

	f->match = match_copy(&fault->match);
	f->damage = fault->damage;
	f->value = fault->value;
	f->skip = fault->skip;
	f->count = fault->count;
	f->endless = fault->count == 0;
	pthread_mutex_lock(&m->lock);
	for (end = &m->faults; *end; end = &(*end)->next)
		;
	*end = f;
	pthread_mutex_unlock(&m->lock);
}

static void free_faults(struct memory_fault *f)
{
	for (struct memory_fault *next; f; f = next) {
		next = f->next;
		free(f->match.file);
		free(f);
	}
}

void repo_memory_heal(struct repo *r)
{
	struct repo_memory *m = memory_of(r);

	pthread_mutex_lock(&m->lock);
	free_faults(m->faults);
	m->faults = NULL;
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_set_gone(struct repo *r, bool gone)
{
	struct repo_memory *m = memory_of(r);

	pthread_mutex_lock(&m->lock);
	m->gone = gone;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

size_t repo_memory_count(struct repo *r, const struct repo_memory_match *match)
{
	struct memory_match copy = match_copy(match);
	struct repo_memory *m = memory_of(r);
	size_t n;

	pthread_mutex_lock(&m->lock);
	n = count(m, &copy);
	pthread_mutex_unlock(&m->lock);
	free(copy.file);
	return n;
}

void repo_memory_await(struct repo *r, const struct repo_memory_match *match, size_t wanted)
{
	struct memory_match copy = match_copy(match);
	struct repo_memory *m = memory_of(r);

	pthread_mutex_lock(&m->lock);
	while (count(m, &copy) < wanted)
		pthread_cond_wait(&m->changed, &m->lock);
	pthread_mutex_unlock(&m->lock);
	free(copy.file);
}

size_t repo_memory_distinct_chunks(struct repo *r)
{
	struct repo_memory *m = memory_of(r);
	struct memory_chunks *seen = memory_alloc(sizeof(*seen));
	size_t n;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->record_count; i++) {
		if (m->records[i].call == REPO_MEMORY_GET_CHUNK)
			memory_chunk_put(seen, &m->records[i].chunk, "", 0);
	}
	n = seen->count;
	pthread_mutex_unlock(&m->lock);
	memory_chunks_release(seen);
	free(seen);
	return n;
}

uint64_t repo_memory_bytes_read(struct repo *r)
{
	struct repo_memory *m = memory_of(r);
	uint64_t n;

	pthread_mutex_lock(&m->lock);
	n = m->bytes_read;
	pthread_mutex_unlock(&m->lock);
	return n;
}

void repo_memory_forget_counts(struct repo *r)
{
	struct repo_memory *m = memory_of(r);

	pthread_mutex_lock(&m->lock);
	m->record_count = 0;
	m->bytes_read = 0;
	pthread_mutex_unlock(&m->lock);
}

void memory_script_release(struct repo_memory *m)
{
	free_faults(m->faults);
	for (struct repo_memory_gate *gate = m->gates, *next; gate; gate = next) {
		next = gate->next;
		free(gate->match.file);
		free(gate);
	}
	free(m->records);
	memory_files_free(m->names);
}
