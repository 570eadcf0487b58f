#include "engine/peers/snapshots.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/doorbell.h"
#include "engine/base/log.h"
#include "engine/peers/snapshot_receiver.h"
#include "engine/peers/snapshot_sender.h"
#include "engine/shard/shard.h"

enum {
    SNAPSHOTS_EVENTS_MAX = 1024,          /* frames and wishes that wait for the thread */
    SNAPSHOTS_EVENTS_BYTES_MAX = 64 << 20,
    SNAPSHOTS_SLEEP_MS_MAX = 1000
};

/* What another thread has for the one of the transfers. */
struct snapshots_event {
    struct snapshots_event *next;
    enum { EVENT_FRAME, EVENT_WANT, EVENT_LEAD_LOST } kind;
    uint32_t shard;
    uint64_t to, term, reach;             /* a wish */
    uint32_t frame_kind, bytes;           /* a frame */
    uint8_t frame[];
};

/* The transfers of one replica of this node. */
struct snapshots_replica {
    uint32_t shard;
    uint64_t server;
    struct storage *storage;
    struct snapshots *all;
    struct snapshot_receiver *receiver;
    struct snapshot_sender *senders[CONSENSUS_SERVERS_MAX];
    uint64_t senders_to[CONSENSUS_SERVERS_MAX]; /* server ids; 0 = none */
    struct snapshots_stats ended;               /* what those did that have given way */
    char directory[4200];
};

struct snapshots {
    struct snapshots_options options;
    atomic_ullong bytes_per_second;
    pthread_t thread;
    struct doorbell bell;
    atomic_bool stop;
    atomic_ullong dropped;

    pthread_mutex_t queue_mutex;          /* held for a few instructions */
    struct snapshots_event *first, **last;
    uint32_t events;
    uint64_t events_bytes;
    struct snapshots_stats counted;       /* as the thread last saw it */

    pthread_mutex_t mutex;                /* the replicas; held while the thread works on one */
    struct snapshots_replica *replicas[LOCAL_SHARDS_SLOTS];
};

/* -- what senders and receivers ask for -------------------------------------------------------- */

static bool snapshots_send(void *arg, uint64_t to, uint32_t kind, const void *frame,
                           size_t bytes) {
    struct snapshots *s = ((struct snapshots_replica *)arg)->all;
    return s->options.send(s->options.arg, consensus_server_node(to), kind,
                           bytes_of(frame, bytes));
}

static void snapshots_wake(void *arg) {
    doorbell_ring(&((struct snapshots_replica *)arg)->all->bell);
}

static bool snapshots_complete(void *arg, const struct shard_snapshot *snapshot) {
    struct snapshots_replica *r = arg;
    struct local_shards *local = r->all->options.shards;
    struct shard *shard = local_shards_enter(local, r->shard);
    if (!shard) return false;
    bool taken = shard_offer_snapshot(shard, snapshot);
    local_shards_leave(local, r->shard);
    if (taken)
        log_info("shard %u: a state of entry %llu has come from node %u", r->shard,
                 (unsigned long long)snapshot->meta.applied_index,
                 consensus_server_node(snapshot->from));
    return taken;
}

static void snapshots_count_sender(const struct snapshot_sender *sender,
                                   struct snapshots_stats *stats) {
    struct snapshot_sender_progress progress;
    snapshot_sender_progress(sender, &progress);
    stats->sending += progress.phase != SENDER_IDLE && progress.phase != SENDER_RESTING;
    stats->sent += progress.completed;
    stats->failed += progress.failed;
    stats->chunks_again += progress.chunks_again;
}

/* A place for one more, CONSENSUS_SERVERS_MAX = there is none. A server that was replaced does not
 * come back: its place, where nothing goes on any more, is given to the next. */
static uint32_t snapshots_place(struct snapshots_replica *r) {
    struct snapshot_sender_progress progress;
    for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
        if (r->senders_to[i] == 0) return i;
    }
    for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
        snapshot_sender_progress(r->senders[i], &progress);
        if (progress.phase != SENDER_IDLE && progress.phase != SENDER_RESTING) continue;
        snapshots_count_sender(r->senders[i], &r->ended);
        snapshot_sender_free(r->senders[i]);
        r->senders[i] = NULL;
        r->senders_to[i] = 0;
        return i;
    }
    return CONSENSUS_SERVERS_MAX;
}

/* The sender to a server; a new one if `make`. NULL = none. */
static struct snapshot_sender *snapshots_sender(struct snapshots_replica *r, uint64_t to,
                                                bool make) {
    for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
        if (r->senders_to[i] == to) return r->senders[i];
    }
    uint32_t unused = make ? snapshots_place(r) : CONSENSUS_SERVERS_MAX;
    if (unused == CONSENSUS_SERVERS_MAX) return NULL;
    char directory[sizeof r->directory + 16];
    snprintf(directory, sizeof directory, "%s/outgoing", r->directory);
    const struct snapshot_sender_options options = {
        .shard = r->shard, .from = r->server, .to = to, .storage = r->storage,
        .directory = directory, .bytes_per_second = atomic_load(&r->all->bytes_per_second),
        .send = snapshots_send, .wake = snapshots_wake, .arg = r};
    r->senders[unused] = snapshot_sender_new(&options);
    if (!r->senders[unused]) return NULL;
    r->senders_to[unused] = to;
    return r->senders[unused];
}

/* -- the thread -------------------------------------------------------------------------------- */

static struct snapshots_replica *snapshots_replica(struct snapshots *s, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    return slot == LOCAL_SHARDS_NONE ? NULL : s->replicas[slot];
}

static void snapshots_take_frame(struct snapshots *s, const struct snapshots_event *e,
                                 int64_t now_ms) {
    struct snapshot_frame frame;
    if (!snapshot_frame_decode(e->frame_kind, e->frame, e->bytes, &frame)) return;
    struct snapshots_replica *r = snapshots_replica(s, frame.shard);
    if (!r) return;
    if (frame.kind == SNAPSHOT_HEADER || frame.kind == SNAPSHOT_CHUNK) {
        snapshot_receiver_receive(r->receiver, &frame, now_ms);
        return;
    }
    struct snapshot_sender *sender = snapshots_sender(r, frame.from, false);
    if (sender) snapshot_sender_receive(sender, &frame, now_ms);
}

static bool snapshots_exports(const struct snapshots *s) {
    struct snapshot_sender_progress progress;
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        const struct snapshots_replica *r = s->replicas[slot];
        for (uint32_t i = 0; r && i < CONSENSUS_SERVERS_MAX; i++) {
            if (!r->senders[i]) continue;
            snapshot_sender_progress(r->senders[i], &progress);
            if (progress.phase == SENDER_EXPORTING) return true;
        }
    }
    return false;
}

/* Consensus asks until it has got it. A node that was away is asked for by all shards at once: they
 * are exported one after the other, so that the disk is not taken from those who write. */
static void snapshots_take_want(struct snapshots *s, struct snapshots_replica *r,
                                const struct snapshots_event *e, int64_t now_ms) {
    struct snapshot_sender_progress progress;
    struct snapshot_sender *sender = snapshots_sender(r, e->to, true);
    if (!sender) return;
    snapshot_sender_progress(sender, &progress);
    bool begins = progress.phase == SENDER_IDLE || progress.phase == SENDER_RESTING;
    if (begins && snapshots_exports(s)) return;
    snapshot_sender_want(sender, e->term, e->reach, now_ms);
}

static void snapshots_take(struct snapshots *s, const struct snapshots_event *e, int64_t now_ms) {
    struct snapshots_replica *r;
    switch (e->kind) {
    case EVENT_FRAME: snapshots_take_frame(s, e, now_ms); break;
    case EVENT_WANT:
        if ((r = snapshots_replica(s, e->shard))) snapshots_take_want(s, r, e, now_ms);
        break;
    case EVENT_LEAD_LOST:
        if (!(r = snapshots_replica(s, e->shard))) break;
        for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
            if (r->senders[i]) snapshot_sender_stop(r->senders[i], now_ms);
        }
        break;
    }
}

static struct snapshots_event *snapshots_take_queue(struct snapshots *s) {
    pthread_mutex_lock(&s->queue_mutex);
    struct snapshots_event *first = s->first;
    s->first = NULL;
    s->last = &s->first;
    s->events = 0;
    s->events_bytes = 0;
    pthread_mutex_unlock(&s->queue_mutex);
    return first;
}

/* Returns when to look again, monotonic. */
static int64_t snapshots_work(struct snapshots *s, int64_t now_ms) {
    int64_t next_ms = now_ms + SNAPSHOTS_SLEEP_MS_MAX;
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        struct snapshots_replica *r = s->replicas[slot];
        if (!r) continue;
        int64_t at_ms = snapshot_receiver_work(r->receiver, now_ms);
        if (at_ms < next_ms) next_ms = at_ms;
        for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
            if (!r->senders[i]) continue;
            snapshot_sender_pace(r->senders[i], atomic_load(&s->bytes_per_second));
            at_ms = snapshot_sender_work(r->senders[i], now_ms);
            if (at_ms < next_ms) next_ms = at_ms;
        }
    }
    return next_ms;
}

/* For whoever asks: the mutex is held as long as the disk takes, and a node's figures are told by
 * threads of the transport, which must not wait so long. */
static void snapshots_count(struct snapshots *s) {
    struct snapshots_stats stats = {0};
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        const struct snapshots_replica *r = s->replicas[slot];
        if (!r) continue;
        struct snapshot_receiver_progress progress;
        snapshot_receiver_progress(r->receiver, &progress);
        stats.receiving += progress.receiving;
        stats.received += progress.completed;
        stats.damaged += progress.damaged;
        for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
            if (r->senders[i]) snapshots_count_sender(r->senders[i], &stats);
        }
        stats.sent += r->ended.sent;
        stats.failed += r->ended.failed;
        stats.chunks_again += r->ended.chunks_again;
    }
    pthread_mutex_lock(&s->queue_mutex);
    s->counted = stats;
    pthread_mutex_unlock(&s->queue_mutex);
}

static void *snapshots_main(void *arg) {
    struct snapshots *s = arg;
    pthread_setname_np(pthread_self(), "snapshots");
    while (!atomic_load(&s->stop)) {
        doorbell_hear(&s->bell);
        struct snapshots_event *e = snapshots_take_queue(s);
        pthread_mutex_lock(&s->mutex);
        while (e) {
            struct snapshots_event *next = e->next;
            snapshots_take(s, e, clock_mono_ms());
            free(e);
            e = next;
        }
        int64_t now_ms = clock_mono_ms(), next_ms = snapshots_work(s, now_ms);
        snapshots_count(s);
        pthread_mutex_unlock(&s->mutex);
        if (next_ms > now_ms) doorbell_sleep(&s->bell, next_ms - now_ms);
    }
    return NULL;
}

/* -- from outside ------------------------------------------------------------------------------ */

struct snapshots *snapshots_start(const struct snapshots_options *options, char *error,
                                  size_t error_bytes) {
    struct snapshots *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(error, error_bytes, "no memory for states on their way");
        return NULL;
    }
    s->options = *options;
    atomic_store(&s->bytes_per_second, options->bytes_per_second);
    s->last = &s->first;
    pthread_mutex_init(&s->queue_mutex, NULL);
    pthread_mutex_init(&s->mutex, NULL);
    int rc = pthread_create(&s->thread, NULL, snapshots_main, s);
    if (rc == 0) return s;
    snprintf(error, error_bytes, "cannot start the thread of states on their way: %s",
             strerror(rc));
    pthread_mutex_destroy(&s->queue_mutex);
    pthread_mutex_destroy(&s->mutex);
    free(s);
    return NULL;
}

bool snapshots_add(struct snapshots *s, uint32_t shard, uint64_t server, struct storage *storage,
                   const char *directory) {
    struct snapshots_replica *r = calloc(1, sizeof *r);
    char incoming[sizeof r->directory + 16];
    if (!r) return false;
    *r = (struct snapshots_replica){.shard = shard, .server = server, .storage = storage,
                                    .all = s};
    snprintf(r->directory, sizeof r->directory, "%s", directory);
    snprintf(incoming, sizeof incoming, "%s/incoming", r->directory);
    const struct snapshot_receiver_options options = {
        .shard = shard, .server = server, .storage = storage, .directory = incoming,
        .send = snapshots_send, .complete = snapshots_complete, .wake = snapshots_wake, .arg = r};
    r->receiver = snapshot_receiver_new(&options);
    if (!r->receiver) {
        free(r);
        return false;
    }
    uint32_t slot = local_shards_slot(shard);
    require(slot != LOCAL_SHARDS_NONE);
    pthread_mutex_lock(&s->mutex);
    require(s->replicas[slot] == NULL);
    s->replicas[slot] = r;
    pthread_mutex_unlock(&s->mutex);
    doorbell_ring(&s->bell);
    return true;
}

void snapshots_pace(struct snapshots *s, uint64_t bytes_per_second) {
    atomic_store(&s->bytes_per_second, bytes_per_second);
}

void snapshots_remove(struct snapshots *s, uint32_t shard) {
    uint32_t slot = local_shards_slot(shard);
    require(slot != LOCAL_SHARDS_NONE);
    pthread_mutex_lock(&s->mutex);
    struct snapshots_replica *r = s->replicas[slot];
    s->replicas[slot] = NULL;
    snapshots_count(s);
    pthread_mutex_unlock(&s->mutex);
    if (!r) return;
    for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++) {
        if (r->senders[i]) snapshot_sender_free(r->senders[i]);
    }
    snapshot_receiver_free(r->receiver);
    free(r);
}

static void snapshots_post(struct snapshots *s, const struct snapshots_event *fields,
                           const void *frame) {
    struct snapshots_event *e = malloc(sizeof *e + fields->bytes);
    bool taken = false;
    if (e) {
        *e = *fields;
        if (e->bytes) memcpy(e->frame, frame, e->bytes);
        e->next = NULL;
        pthread_mutex_lock(&s->queue_mutex);
        taken = s->events < SNAPSHOTS_EVENTS_MAX &&
                s->events_bytes + e->bytes <= SNAPSHOTS_EVENTS_BYTES_MAX;
        if (taken) {
            *s->last = e;
            s->last = &e->next;
            s->events++;
            s->events_bytes += e->bytes;
        }
        pthread_mutex_unlock(&s->queue_mutex);
    }
    if (taken) {
        doorbell_ring(&s->bell);
        return;
    }
    free(e);
    atomic_fetch_add(&s->dropped, 1);
}

void snapshots_want(struct snapshots *s, uint32_t shard, const struct consensus_message *message) {
    const struct snapshots_event e = {.kind = EVENT_WANT, .shard = shard, .to = message->to,
                                      .term = message->term, .reach = message->previous_index};
    snapshots_post(s, &e, NULL);
}

void snapshots_lead_lost(struct snapshots *s, uint32_t shard) {
    const struct snapshots_event e = {.kind = EVENT_LEAD_LOST, .shard = shard};
    snapshots_post(s, &e, NULL);
}

void snapshots_receive(struct snapshots *s, uint32_t kind, struct bytes frame) {
    const struct snapshots_event e = {.kind = EVENT_FRAME, .frame_kind = kind,
                                      .bytes = frame.size};
    snapshots_post(s, &e, frame.data);
}

void snapshots_stop(struct snapshots *s) {
    atomic_store(&s->stop, true);
    doorbell_ring(&s->bell);
    int rc = pthread_join(s->thread, NULL);
    require(rc == 0);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++)
        snapshots_remove(s, local_shards_number(slot));
    for (struct snapshots_event *e = snapshots_take_queue(s), *next; e; e = next) {
        next = e->next;
        free(e);
    }
    pthread_mutex_destroy(&s->queue_mutex);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

void snapshots_stats(struct snapshots *s, struct snapshots_stats *stats) {
    pthread_mutex_lock(&s->queue_mutex);
    *stats = s->counted;
    pthread_mutex_unlock(&s->queue_mutex);
    stats->dropped = atomic_load(&s->dropped);
}
