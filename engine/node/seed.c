#include "engine/node/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/directory.h"
#include "engine/limits.h"
#include "engine/node/identity.h"
#include "persistence/consensus.h"
#include "persistence/lmdb/storage_lmdb.h"
#include "persistence/record.h"

enum { SEED_PATIENCE_MS = 120000, SEED_LOOK_MS = 1 };

/* -- a storage that nobody serves from --------------------------------------------------------- */

static struct storage *open_storage(const char *directory, uint32_t shard,
                                    struct storage_meta *meta, char *error, size_t error_bytes) {
    const struct storage_lmdb_options options = {.directory = directory, .shard = shard};
    struct storage *s = storage_lmdb_open(&options, error, error_bytes);
    if (s && s->ops->load_meta(s, meta, error, error_bytes) == 0) return s;
    if (s) s->ops->close(s);
    return NULL;
}

/* Polls until an event of this kind comes; false = it took too long. */
static bool await(struct storage *s, uint8_t kind, struct storage_event *event) {
    for (int64_t until_ms = clock_mono_ms() + SEED_PATIENCE_MS; clock_mono_ms() < until_ms;) {
        while (s->ops->poll(s, event, 1) == 1)
            if (event->kind == kind) return true;
        usleep(SEED_LOOK_MS * 1000);
    }
    return false;
}

/* Moves the marker, and with it the configuration. */
static int put_marker(struct storage *s, const struct storage_meta *m, char *error,
                      size_t error_bytes) {
    struct storage_event event;
    struct checkpoint c = {.applied_index = m->applied_index, .applied_term = m->applied_term,
                           .configuration_index = m->configuration_index,
                           .configuration = m->configuration,
                           .configuration_bytes = m->configuration_bytes};
    s->ops->checkpoint(s, &c);
    bool came = await(s, STORAGE_CHECKPOINTED, &event);
    if (came && event.ok) return 0;
    snprintf(error, error_bytes, "there is no room on the disk");
    return -1;
}

/* What lies behind the marker. */
struct tail {
    struct storage_meta *meta;
    uint64_t term;
    int64_t time_ms;
    bool events;
};

static bool visit_tail(void *arg, const struct record_header *h, const void *payload) {
    struct tail *t = arg;
    struct entry_header entry;
    t->term = h->term;
    if (h->type == RECORD_EVENTS) t->events = true;
    if (h->type == RECORD_EVENTS && h->payload_bytes >= sizeof entry) {
        memcpy(&entry, payload, sizeof entry);
        t->time_ms = entry.time_ms;
    }
    if (h->type != RECORD_CONFIGURATION || h->payload_bytes > sizeof t->meta->configuration)
        return true;
    memcpy(t->meta->configuration, payload, h->payload_bytes);
    t->meta->configuration_bytes = h->payload_bytes;
    t->meta->configuration_index = h->index;
    return true;
}

static int read_tail(struct storage *s, struct storage_meta *m, struct tail *t, char *error,
                     size_t error_bytes) {
    *t = (struct tail){.meta = m, .term = m->applied_term};
    if (m->log_last <= m->applied_index) return 0;
    return s->ops->read(s, m->applied_index + 1, m->log_last, visit_tail, t, error, error_bytes);
}

/* Brings the marker to the end of the log; possible when only what elections write lies between. */
static int settle(struct storage *s, struct storage_meta *m, char *error, size_t error_bytes) {
    struct tail t;
    if (read_tail(s, m, &t, error, error_bytes) != 0) return -1;
    if (m->applied_index == 0 || t.events) {
        snprintf(error, error_bytes, "its log goes on behind its stored state: start the node "
                 "alone once more, without --cluster-wait, and stop it in order when it is "
                 "ready");
        return -1;
    }
    if (m->log_last <= m->applied_index) return 0;
    m->applied_index = m->log_last;
    m->applied_term = t.term;
    return put_marker(s, m, error, error_bytes);
}

static int fail(const char *directory, uint32_t shard, char *error, size_t error_bytes) {
    char because[512];
    snprintf(because, sizeof because, "%s", error);
    snprintf(error, error_bytes, "shard %u of %s: %s", shard, directory, because);
    return -1;
}

static void shard_path(const char *directory, uint32_t shard, char *out, size_t bytes) {
    snprintf(out, bytes, "%s/shard-%u", directory, shard);
}
static void seed_path(const char *directory, uint32_t shard, char *out, size_t bytes) {
    snprintf(out, bytes, "%s/seed-%u.state", directory, shard);
}

/* -- carrying ---------------------------------------------------------------------------------- */

static int export(const char *directory, uint32_t shard, char *error, size_t error_bytes) {
    char path[4200], file[4200];
    static atomic_bool stop;
    struct storage_meta *meta = malloc(sizeof *meta);
    shard_path(directory, shard, path, sizeof path);
    seed_path(directory, shard, file, sizeof file);
    unlink(file);
    struct storage *s = meta ? open_storage(path, shard, meta, error, error_bytes) : NULL;
    int rc = s ? settle(s, meta, error, error_bytes) : -1;
    if (rc == 0) rc = s->ops->export_state(s, file, &stop, meta, error, error_bytes);
    if (s) s->ops->close(s);
    free(meta);
    return rc;
}

int seed_read(const char *directory, uint32_t shard, uint64_t offset, void *buffer,
              uint32_t capacity, uint32_t *bytes, uint64_t *total, char *error,
              size_t error_bytes) {
    char file[4200];
    if (offset == 0 && export(directory, shard, error, error_bytes) != 0)
        return fail(directory, shard, error, error_bytes);
    seed_path(directory, shard, file, sizeof file);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    ssize_t n = end >= 0 ? pread(fd, buffer, capacity, (off_t)offset) : -1;
    if (n < 0) snprintf(error, error_bytes, "cannot read %s: %s", file, strerror(errno));
    if (fd >= 0) close(fd);
    if (n < 0) return -1;
    *bytes = (uint32_t)n;
    *total = (uint64_t)end;
    return 0;
}

int seed_write(const char *directory, uint32_t shard, uint64_t offset, uint64_t total,
               struct bytes data, char *error, size_t error_bytes) {
    char file[4200];
    seed_path(directory, shard, file, sizeof file);
    if (shard >= SHARDS_MAX || offset + data.size > total || (data.size == 0 && total > 0)) {
        snprintf(error, error_bytes, "a piece of a state that cannot be");
        return -1;
    }
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | (offset == 0 ? O_TRUNC : 0), 0666);
    bool good = fd >= 0 && lseek(fd, 0, SEEK_END) == (off_t)offset;
    if (fd >= 0 && !good) errno = EINVAL; /* a piece is missing */
    if (good) good = pwrite(fd, data.data, data.size, (off_t)offset) == (ssize_t)data.size;
    if (good && offset + data.size == total)
        good = fsync(fd) == 0 && directory_sync(directory) == 0;
    if (!good) snprintf(error, error_bytes, "cannot write %s: %s", file, strerror(errno));
    if (fd >= 0) close(fd);
    return good ? 0 : -1;
}

void seed_forget(const char *directory, uint32_t shard) {
    char file[4200];
    seed_path(directory, shard, file, sizeof file);
    unlink(file);
}

/* -- adopting ---------------------------------------------------------------------------------- */

/* The configuration record of these voters. */
static struct record *configuration_of(const uint64_t *servers, uint32_t count) {
    char texts[CONSENSUS_SERVERS_MAX][24];
    const char *addresses[CONSENSUS_SERVERS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], "%" PRIu64, servers[i]); /* as shard_start.c does */
        addresses[i] = texts[i];
    }
    return consensus_bootstrap_record(servers, addresses, count);
}

/* Whether an earlier run has put in the very state that was received. Its place in the log alone
 * does not tell: another node's state may end at the same one. */
static int is_installed(struct storage *s, const char *file, const struct storage_meta *m,
                        const struct storage_meta *seed, bool *there, char *error,
                        size_t error_bytes) {
    *there = false;
    if (m->applied_index != seed->applied_index || m->applied_term != seed->applied_term) return 0;
    return storage_lmdb_same_rows(s, file, there, error, error_bytes);
}

/* Puts the received state in. Nothing to do when an earlier run has got as far: the file is taken
 * by the install, and nothing else puts a state into the directory of a node that waits. */
static int install(struct storage *s, const char *directory, uint32_t shard,
                   struct storage_meta *m, char *error, size_t error_bytes) {
    char file[4200];
    seed_path(directory, shard, file, sizeof file);
    if (m->applied_index != 0 && access(file, F_OK) != 0 && errno == ENOENT) return 0;
    struct storage_meta *seed = malloc(sizeof *seed);
    int rc = seed ? s->ops->check_state(s, file, seed, error, error_bytes) : -1;
    bool there = false;
    if (rc == 0) rc = is_installed(s, file, m, seed, &there, error, error_bytes);
    if (rc == 0 && !there && (m->applied_index != 0 || m->log_last != 0)) {
        snprintf(error, error_bytes, "it has a log of its own, or another state is left of a "
                 "forming that was broken off: start the node on an empty directory");
        rc = -1;
    }
    if (rc == 0 && !there) rc = s->ops->install_state(s, file, 0, error, error_bytes);
    if (rc == 0) rc = s->ops->load_meta(s, m, error, error_bytes);
    free(seed);
    return rc;
}

static bool names_voters(const struct storage_meta *m, const struct record *record) {
    return m->configuration_bytes == record->header.payload_bytes &&
           memcmp(m->configuration, record->payload, record->header.payload_bytes) == 0;
}

/* Whether an earlier run has got as far as the record that names `wanted`'s voters. */
static bool is_formed(struct storage *s, const struct storage_meta *m,
                      const struct record *wanted) {
    struct tail t = {.meta = NULL};
    struct storage_meta *newest = malloc(sizeof *newest);
    bool formed = false;
    if (newest && m->applied_index > 0 && m->log_last == m->applied_index + 1) {
        *newest = *m;
        newest->configuration_index = 0;
        formed = read_tail(s, newest, &t, NULL, 0) == 0 && !t.events &&
                 newest->configuration_index == m->log_last && names_voters(newest, wanted);
    }
    free(newest);
    return formed;
}

/* Into the marker. */
static int put_configuration(struct storage *s, struct storage_meta *m,
                             const struct record *record, char *error, size_t error_bytes) {
    memcpy(m->configuration, record->payload, record->header.payload_bytes);
    m->configuration_bytes = record->header.payload_bytes;
    m->configuration_index = m->applied_index;
    return put_marker(s, m, error, error_bytes);
}

/* The same at each of them: term and vote, and the record behind the stored state: for whoever has
 * to rebuild that from the log. No log of a cluster ends with the configuration of a node alone. */
static int append_configuration(struct storage *s, const struct storage_meta *m,
                                struct record *record, char *error, size_t error_bytes) {
    struct storage_event event;
    uint64_t term = m->term > m->applied_term ? m->term : m->applied_term;
    s->ops->save_vote(s, term + 1, 0);
    record->header.index = m->applied_index + 1;
    record->header.term = m->applied_term + 1;
    record_hold(record);
    s->ops->append(s, record);
    if (await(s, STORAGE_APPENDED, &event)) return 0;
    snprintf(error, error_bytes, "the disk does not take its configuration");
    return -1;
}

/* Takes the record over. The marker names the voters last, and whatever an earlier run left: as
 * long as it does not, a leader that lacked the record could take their names back. */
static int adopt(struct storage *s, const char *directory, uint32_t shard,
                 struct storage_meta *m, struct record *record, bool here, char *error,
                 size_t error_bytes) {
    int rc = 0;
    if (!here) rc = install(s, directory, shard, m, error, error_bytes);
    bool formed = rc == 0 && is_formed(s, m, record);
    if (rc == 0 && here && !formed) rc = settle(s, m, error, error_bytes);
    if (rc == 0 && !formed && m->log_last > m->applied_index) {
        snprintf(error, error_bytes, "its log goes on behind the state that it was given");
        rc = -1;
    }
    if (rc == 0 && !formed) rc = append_configuration(s, m, record, error, error_bytes);
    if (rc == 0 && !names_voters(m, record))
        rc = put_configuration(s, m, record, error, error_bytes);
    record_release(record);
    return rc;
}

int seed_adopt(const char *directory, uint32_t shard, const uint64_t *servers, uint32_t count,
               bool here, char *error, size_t error_bytes) {
    char path[4200];
    struct storage_meta *meta = malloc(sizeof *meta);
    struct record *record = configuration_of(servers, count);
    struct storage *s = NULL;
    int rc = -1;
    shard_path(directory, shard, path, sizeof path);
    if (!meta || !record || record->header.payload_bytes > sizeof meta->configuration)
        snprintf(error, error_bytes, "no memory for the configuration");
    else s = open_storage(path, shard, meta, error, error_bytes);
    if (s) rc = adopt(s, directory, shard, meta, record, here, error, error_bytes);
    else if (record) record_release(record);
    if (s) s->ops->close(s);
    free(meta);
    return rc == 0 ? 0 : fail(directory, shard, error, error_bytes);
}

/* -- what is left of a cluster ----------------------------------------------------------------- */

int seed_look(const char *replica_directory, uint32_t shard, struct seed_log *log, char *error,
              size_t error_bytes) {
    struct tail t;
    struct storage_meta *m = malloc(sizeof *m);
    struct storage *s = m ? open_storage(replica_directory, shard, m, error, error_bytes) : NULL;
    int rc = s ? read_tail(s, m, &t, error, error_bytes) : -1;
    if (rc == 0)
        *log = (struct seed_log){m->log_last > m->applied_index ? m->log_last : m->applied_index,
                                 t.term, m->applied_index, t.time_ms};
    if (s) s->ops->close(s);
    free(m);
    return rc == 0 ? 0 : fail(replica_directory, shard, error, error_bytes);
}

/* The last record of the log names the one voter that is left; as such it commits all before it. */
int seed_alone(const char *replica_directory, uint32_t shard, uint64_t server, char *error,
               size_t error_bytes) {
    struct tail t;
    struct storage_event event;
    struct storage_meta *m = malloc(sizeof *m);
    struct storage *s = m ? open_storage(replica_directory, shard, m, error, error_bytes) : NULL;
    int rc = s ? read_tail(s, m, &t, error, error_bytes) : -1;
    struct record *record = rc == 0 ? configuration_of(&server, 1) : NULL;
    if (record) {
        uint64_t term = m->term > t.term ? m->term : t.term;
        uint64_t last = m->log_last > m->applied_index ? m->log_last : m->applied_index;
        s->ops->save_vote(s, term + 1, 0);
        record->header.index = last + 1;
        record->header.term = term + 1;
        s->ops->append(s, record);
        rc = await(s, STORAGE_APPENDED, &event) ? 0 : -1;
        if (rc != 0) snprintf(error, error_bytes, "the disk does not take it");
    } else if (rc == 0) {
        snprintf(error, error_bytes, "no memory for the configuration");
        rc = -1;
    }
    if (s) s->ops->close(s);
    free(m);
    return rc == 0 ? 0 : fail(replica_directory, shard, error, error_bytes);
}
