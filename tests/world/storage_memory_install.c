/* The simulated disk's state as a whole: exported to a file of the world, checked, installed. */
#include "engine/wire/routing.h"
#include "tests/world/storage_memory_private.h"

/* -- the files of the world -------------------------------------------------------------------- */

struct storage_memory_files *storage_memory_files_new(void) {
    struct storage_memory_files *files = calloc(1, sizeof *files);
    require(files != NULL);
    return files;
}

static void actors_free(struct memory_actor *actors) {
    while (actors != NULL) {
        struct memory_actor *a = actors;
        actors = a->next;
        free(a->block);
        free(a);
    }
}

static void file_free(struct memory_file *file) {
    if (file == NULL) return;
    actors_free(file->actors);
    free(file->cursors);
    free(file->path);
    free(file);
}

void storage_memory_files_free(struct storage_memory_files *files) {
    while (files->first != NULL) {
        struct memory_file *file = files->first;
        files->first = file->next;
        file_free(file);
    }
    free(files);
}

static struct memory_file **file_find(const struct storage_memory_files *files, const char *path) {
    struct memory_file **link = (struct memory_file **)(uintptr_t)&files->first;
    while (*link != NULL && strcmp((*link)->path, path) != 0) link = &(*link)->next;
    return link;
}

static struct memory_file *file_take(struct storage_memory_files *files, const char *path) {
    struct memory_file **link = file_find(files, path), *file = *link;
    if (file != NULL) *link = file->next;
    return file;
}

static void file_put(struct storage_memory_files *files, struct memory_file *file) {
    file_free(file_take(files, file->path));
    file->next = files->first;
    files->first = file;
}

static struct memory_actor *actor_copy(const struct memory_actor *a, struct memory_actor *next) {
    struct memory_actor *copy = malloc(sizeof *copy);
    require(copy != NULL);
    *copy = *a;
    copy->block = block_copy(a);
    copy->next = next;
    return copy;
}

static void *bytes_copy(const void *from, size_t bytes) {
    void *copy = malloc(bytes > 0 ? bytes : 1);
    require(copy != NULL);
    if (bytes > 0) memcpy(copy, from, bytes);
    return copy;
}

bool storage_memory_files_copy(struct storage_memory_files *files, const char *from,
                               const char *to) {
    const struct memory_file *file = *file_find(files, from);
    if (file == NULL) return false;
    struct memory_file *copy = bytes_copy(file, sizeof *file);
    copy->path = bytes_copy(to, strlen(to) + 1);
    copy->cursors = bytes_copy(file->cursors, file->cursors_count * sizeof *file->cursors);
    copy->actors = NULL;
    for (const struct memory_actor *a = file->actors; a != NULL; a = a->next) {
        copy->actors = actor_copy(a, copy->actors);
    }
    file_put(files, copy);
    return true;
}

bool storage_memory_files_remove(struct storage_memory_files *files, const char *path) {
    struct memory_file *file = file_take(files, path);
    file_free(file);
    return file != NULL;
}

bool storage_memory_files_corrupt(struct storage_memory_files *files, const char *path) {
    struct memory_file *file = *file_find(files, path);
    if (file != NULL) file->damaged = true;
    return file != NULL;
}

struct storage_memory_files *storage_memory_files(const struct storage_memory *d) {
    return d->files;
}

uint64_t storage_memory_files_bytes(const struct storage_memory_files *files, const char *path) {
    const struct memory_file *file = *file_find(files, path);
    if (file == NULL) return 0;
    uint64_t bytes = sizeof *file + file->cursors_count * sizeof *file->cursors;
    for (const struct memory_actor *a = file->actors; a != NULL; a = a->next) {
        bytes += sizeof *a + a->bytes;
    }
    return bytes;
}

/* -- export and check -------------------------------------------------------------------------- */

static void marker_tell(const struct memory_marker *marker, struct storage_meta *meta) {
    meta->applied_index = marker->applied_index;
    meta->applied_term = marker->applied_term;
    meta->configuration_index = marker->configuration_index;
    meta->configuration_bytes = marker->configuration_bytes;
    memcpy(meta->configuration, marker->configuration, marker->configuration_bytes);
}

static void actor_tell(const struct memory_actor *a, struct storage_meta *meta) {
    if (a->kind == ACTOR_STORE) meta->stores_count++;
    if (a->kind != ACTOR_ORDER) return;
    meta->orders_count++;
    int64_t birth = routing_birth_ms(&a->key);
    if (birth > meta->orders_birth_max_ms) meta->orders_birth_max_ms = birth;
}

void state_tell(const struct storage_memory *d, struct storage_meta *meta) {
    marker_tell(&d->marker, meta);
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            actor_tell(a, meta);
        }
    }
}

int memory_export_state(struct storage *s, const char *path, const atomic_bool *stop,
                        struct storage_meta *meta, char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    const char *fault = NULL;
    if (!disk_operation(d)) fault = "the process has died";
    else if (d->full) fault = "no room";
    else if (stop != NULL && atomic_load(stop)) fault = "stopped";
    struct memory_file *file = calloc(1, sizeof *file);
    require(file != NULL);
    for (uint32_t b = 0; b < MEMORY_BUCKETS && fault == NULL; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            d->told_damaged |= a->damaged;
            if (a->damaged) fault = "a stored actor: checksum does not match";
            file->actors = actor_copy(a, file->actors);
        }
    }
    if (fault != NULL) {
        file_free(file);
        snprintf(error, error_bytes, "%s cannot be written: %s", path, fault);
        return -1;
    }
    file->path = bytes_copy(path, strlen(path) + 1);
    file->shard = d->options.shard;
    file->marker = d->marker;
    file->cursors = bytes_copy(d->cursors, d->cursors_count * sizeof *d->cursors);
    file->cursors_count = d->cursors_count;
    file_put(d->files, file);
    memset(meta, 0, sizeof *meta);
    state_tell(d, meta);
    d->counters.exports++;
    return 0;
}

/* NULL with a sentence when the file is missing, damaged, or of another shard. */
static const struct memory_file *file_check(const struct storage_memory *d, const char *path,
                                            char *error, size_t error_bytes) {
    const struct memory_file *file = *file_find(d->files, path);
    const char *fault = NULL;
    if (file == NULL) fault = "no such file";
    else if (file->damaged) fault = "damaged: checksum does not match";
    else if (file->shard != d->options.shard) fault = "of another shard";
    if (fault == NULL) return file;
    snprintf(error, error_bytes, "%s: %s", path, fault);
    return NULL;
}

int memory_check_state(struct storage *s, const char *path, struct storage_meta *meta, char *error,
                       size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    if (d->crashed) {
        snprintf(error, error_bytes, "the process has died");
        return -1;
    }
    const struct memory_file *file = file_check(d, path, error, error_bytes);
    if (file == NULL) return -1;
    memset(meta, 0, sizeof *meta);
    marker_tell(&file->marker, meta);
    for (const struct memory_actor *a = file->actors; a != NULL; a = a->next) actor_tell(a, meta);
    return 0;
}

/* -- install ----------------------------------------------------------------------------------- */

/* All that is queued: of the appends a prefix, by chance, still gets done. Returns the index from
 * which on the stored log is not what it was told to be; UINT64_MAX = it is. */
static uint64_t queue_end(struct storage_memory *d) {
    uint32_t done = d->full ? 0 : (uint32_t)prng_below(&d->prng, d->appends_count + 1);
    uint64_t lost_from = UINT64_MAX;
    for (uint32_t i = 0; i < d->appends_count; i++) {
        struct memory_append *a = &d->appends[i];
        uint64_t first = a->records->header.index;
        if (i < done) append_make_durable(d, a);
        else append_release(a);
        if (i >= done && first < lost_from) lost_from = first;
    }
    appends_drop(d, d->appends_count);
    while (d->loads != NULL) {
        struct memory_load *load = d->loads;
        d->loads = load->next;
        d->loads_waiting--;
        free(load);
    }
    d->loads_tail = &d->loads;
    events_drop(d);
    return lost_from;
}

static void state_replace(struct storage_memory *d, struct memory_file *file) {
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        actors_free(d->buckets[b]);
        d->buckets[b] = NULL;
    }
    while (file->actors != NULL) {
        struct memory_actor *a = file->actors;
        file->actors = a->next;
        struct memory_actor **link = actor_find(d, a->kind, &a->key);
        a->next = NULL;
        *link = a;
    }
    free(d->cursors);
    d->cursors = file->cursors;
    d->cursors_count = file->cursors_count;
    file->cursors = NULL;
    d->marker = file->marker;
    d->timers_damaged = false;
    file_free(file);
}

/* All that is queued is done first: the journal is empty behind an install. */
static bool journal_is_settled(struct storage_memory *d) {
    uint32_t done = 0;
    while (done < d->appends_count && journal_append(d, &d->appends[done])) done++;
    bool all = done == d->appends_count;
    appends_drop(d, done);
    return all && journal_settle(d);
}

int memory_install_state(struct storage *s, const char *path, uint64_t committed_index,
                         char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    const struct memory_file *file = file_check(d, path, error, error_bytes);
    if (file == NULL) return -1;
    uint64_t marker = file->marker.applied_index;
    const char *fault = NULL;
    if (marker <= committed_index || marker <= d->marker.applied_index) fault = "it is not newer";
    else if (committed_index < d->marker.applied_index) fault = "what is stored was not committed";
    else if (d->checkpoint != NULL || event_waits(d, STORAGE_CHECKPOINTED))
        fault = "a checkpoint is under way";
    if (fault != NULL) disk_fault(d, "a state at %lu is installed, but %s", (unsigned long)marker,
                                  fault);
    else if (d->full) fault = "no room";
    else if (!disk_operation(d)) fault = "the process has died";
    if (fault != NULL) {
        snprintf(error, error_bytes, "%s: %s", path, fault);
        return -1;
    }
    if (d->options.journal_blocks > 0 && !journal_is_settled(d)) {
        snprintf(error, error_bytes, "%s: the process has died", path);
        return -1;
    }
    uint64_t kept = queue_end(d);
    kept = kept == UINT64_MAX || kept > log_last(d) ? log_last(d) : kept - 1;
    if (kept > committed_index) kept = committed_index;
    log_start_anew(d, kept, marker);
    state_replace(d, file_take(d->files, path));
    d->queued_last = marker;
    d->counters.installs++;
    return 0;
}
