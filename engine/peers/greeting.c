#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/node_clock.h"
#include "engine/base/program.h"
#include "engine/peers/node_peers_private.h"
#include "engine/wire/tls.h"

enum {
    GREETING_SPACING_MS = 5,        /* between two hellos, however much changes */
    GREETING_DUPLICATE_LOG_MS = 60000,
    /* PEER_REDIAL_MS with encryption: greetings of TLS take their time, and one that is broken off
     * has to begin again. */
    GREETING_REDIAL_TLS_MS = 5000
};

void greeting_init(struct node_peers *p) {
    p->started_ms = clock_unix_ms();
    if (getrandom(&p->instance, sizeof p->instance, 0) != (ssize_t)sizeof p->instance)
        p->instance = (uint64_t)clock_mono_ns();
    p->instance >>= 1; /* fits a signed number anywhere */
}

/* The node's place. NULL = not one of the cluster, as far as is known here. The seen_mutex is
 * held. */
static struct peer_seen *greeting_seen(struct node_peers *p, uint32_t node) {
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (p->seen[i].node == node) return &p->seen[i];
    }
    return NULL;
}

/* -- in ---------------------------------------------------------------------------------------- */

/* A hello under this node's own number. */
static void greeting_from_self(struct node_peers *p, const struct hello *h) {
    if (h->instance == p->instance) {
        atomic_store(&p->self_heard, true);
        return;
    }
    char sentence[512];
    bool newer = p->started_ms > h->started_ms ||
                 (p->started_ms == h->started_ms && p->instance > h->instance);
    snprintf(sentence, sizeof sentence, "another process runs as node %u of this cluster, with "
             "clients at %s: is the data directory a copy? %s", p->options.node, h->endpoint,
             newer ? "This process is the newer one and stops"
                   : "That process is the newer one and has to stop");
    if (newer) {
        if (!atomic_exchange(&p->duplicate_told, true))
            p->options.duplicate(p->options.arg, sentence);
        return;
    }
    int64_t now_ms = clock_mono_ms();
    if (p->duplicate_logged_ms != 0 && now_ms - p->duplicate_logged_ms < GREETING_DUPLICATE_LOG_MS)
        return;
    p->duplicate_logged_ms = now_ms;
    log_error("%s", sentence);
}

static bool greeting_lists(const struct hello *h, uint32_t shard) {
    for (uint32_t i = 0; i < h->leads_count; i++) {
        if (h->leads[i].shard == shard) return true;
    }
    return false;
}

/* What it leads, and what it leads no more. */
static void greeting_note_leads(struct node_peers *p, uint32_t from, const struct hello *h) {
    struct leaders *l = p->options.leaders;
    for (uint32_t i = 0; i < h->leads_count; i++) {
        const struct hello_lead *lead = &h->leads[i];
        leaders_note(l, from, lead->shard, lead->term, lead->leader, lead->ready);
    }
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t shard = local_shards_number(slot);
        if (leaders_route(l, shard).node != from || greeting_lists(h, shard)) continue;
        leaders_note(l, from, shard, leaders_known(l, shard).term, 0, false);
    }
}

static void greeting_tell_clock(uint32_t from, int64_t ahead_ms) {
    int64_t apart_ms = ahead_ms < 0 ? -ahead_ms : ahead_ms;
    log_warn("the clock of node %u is %" PRId64 ".%" PRId64 " s %s this node's: deadlines fire by "
             "the clock of whoever leads. Set the clock that is wrong right (NTP), and restart its "
             "node if clock_refused_ms in its status is not 0 then", from, apart_ms / 1000,
             apart_ms % 1000 / 100, ahead_ms < 0 ? "behind" : "ahead of");
}

/* False for a node that is not in the list. */
static bool greeting_note_seen(struct node_peers *p, uint32_t from, const struct hello *h) {
    int64_t now_ms = clock_mono_ms(), unix_ms = node_clock_ms(p->options.clock), ahead_ms = 0;
    pthread_mutex_lock(&p->seen_mutex);
    struct peer_seen *s = greeting_seen(p, from);
    bool back = s && s->silent, skewed = false;
    if (s) {
        s->back = s->back || back || s->instance != h->instance;
        s->instance = h->instance;
        s->document = h->document;
        s->heard_ms = now_ms;
        s->silent = false;
        memcpy(s->endpoint, h->endpoint, sizeof s->endpoint);
        memcpy(s->version, h->version, sizeof s->version);
        s->level_min = h->level_min;
        s->level_max = h->level_max;
        skewed = clock_skew_note(&s->clock, h->now_ms, unix_ms, now_ms);
        ahead_ms = s->clock.ahead_ms;
        s->heard_us_ms = 0;
        for (uint32_t i = 0; i < h->heard_count; i++) {
            const struct hello_heard *heard = &h->heard[i];
            if (heard->node == p->options.node && heard->instance == p->instance)
                s->heard_us_ms = now_ms - (int64_t)(heard->age_ms & INT32_MAX);
        }
    }
    pthread_mutex_unlock(&p->seen_mutex);
    if (skewed) greeting_tell_clock(from, ahead_ms);
    if (back) {
        log_info("node %u (version %s) is heard", from, h->version);
        doorbell_ring(&p->bell); /* it shall know at once that it is heard, and who leads */
    }
    return s != NULL;
}

void greeting_received(struct node_peers *p, uint32_t from, struct bytes body) {
    struct hello *h = &p->incoming;
    if (!hello_read(body, h)) return;
    node_peers_count(&p->hellos_received);
    if (from == p->options.node) {
        greeting_from_self(p, h);
        return;
    }
    /* One that is not known may be in a newer document: that is all that is taken from it. */
    if (greeting_note_seen(p, from, h)) greeting_note_leads(p, from, h);
    p->options.hello_received(p->options.arg, from, h->document);
}

/* -- out --------------------------------------------------------------------------------------- */

static void greeting_fill(struct node_peers *p, int64_t now_ms) {
    struct hello *h = &p->outgoing;
    struct leaders *l = p->options.leaders;
    *h = (struct hello){.document = atomic_load(&p->document), .instance = p->instance,
                        .started_ms = p->started_ms, .level_min = program.level_min,
                        .level_max = program.level_max,
                        .now_ms = node_clock_ms(p->options.clock)};
    snprintf(h->version, sizeof h->version, "%s", program.version);
    memcpy(h->endpoint, p->client_endpoint, sizeof h->endpoint);
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        uint32_t shard = local_shards_number(slot);
        if (leaders_route(l, shard).node != p->options.node) continue;
        struct leader_known known = leaders_known(l, shard);
        if (consensus_server_node(known.server) != p->options.node) continue;
        h->leads[h->leads_count++] =
            (struct hello_lead){shard, known.term, known.server, known.ready};
    }
    pthread_mutex_lock(&p->seen_mutex);
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        const struct peer_seen *s = &p->seen[i];
        if (s->node == 0 || s->heard_ms == 0) continue;
        h->heard[h->heard_count++] =
            (struct hello_heard){s->node, s->instance, (uint64_t)(now_ms - s->heard_ms)};
    }
    pthread_mutex_unlock(&p->seen_mutex);
}

static void greeting_send(struct node_peers *p) {
    struct transport_message m;
    for (uint32_t i = 0; i < p->nodes_count; i++) {
        if (!transport_begin(p->messages, p->nodes[i], PEER_HELLO, HELLO_BYTES_MAX, &m)) continue;
        hello_write(&m.body, &p->outgoing);
        if (transport_send(p->messages, &m)) node_peers_count(&p->hellos_sent);
    }
}

/* A connection that was cut may wait for minutes before it notices, or tries again: a node that is
 * not heard, or says that it does not hear us, is dialled anew. One that is heard again is dialled
 * at once: its own hello is the quickest sign that somebody is there. The nodes_mutex is held. */
static void greeting_look_after(struct node_peers *p, uint32_t node, int64_t now_ms) {
    pthread_mutex_lock(&p->seen_mutex);
    struct peer_seen *s = greeting_seen(p, node);
    bool silent = s && now_ms - s->heard_ms > PEER_SILENT_MS;
    bool fell_silent = silent && !s->silent;
    bool deaf = s && !silent && now_ms - s->heard_us_ms > PEER_SILENT_MS;
    if (s && s->dialled_ms == 0) s->dialled_ms = now_ms; /* begun with set_nodes */
    int64_t every_ms = tls_is_wanted(p->options.listen) ? GREETING_REDIAL_TLS_MS : PEER_REDIAL_MS;
    bool redial = (silent || deaf) && now_ms - s->dialled_ms >= every_ms;
    bool back = s && s->back && !silent;
    if (back) s->back = false;
    if (back && !transport_is_up(p->messages, node)) redial = true;
    if (redial) s->dialled_ms = now_ms;
    if (silent) s->silent = true;
    pthread_mutex_unlock(&p->seen_mutex);
    if (fell_silent) {
        log_warn("node %u has not been heard for %d ms", node, PEER_SILENT_MS);
        leaders_forget_node(p->options.leaders, node);
    }
    if (s && !silent && !deaf) {
        transport_heard(p->messages, node);
        transport_heard(p->snapshots, node);
    }
    if (redial) {
        node_peers_count(&p->redials);
        transport_redial(p->messages, node);
    }
    if (back || (deaf && redial)) transport_redial(p->snapshots, node);
    else if (redial) transport_unheard(p->snapshots, node);
}

/* Running traffic comes before followers that lag. */
static void greeting_pace(struct node_peers *p, int64_t now_ms) {
    uint64_t rate = pace_rate(&p->pace, now_ms);
    catch_up_pace(p->catch_up, pace_of_all(&p->pace, rate, catch_up_nodes(p->catch_up)));
    snapshots_pace(p->states, rate);
}

static void *greeting_main(void *arg) {
    struct node_peers *p = arg;
    pthread_setname_np(pthread_self(), "greeter");
    while (!atomic_load(&p->stopping)) {
        doorbell_hear(&p->bell);
        int64_t now_ms = clock_mono_ms();
        pthread_mutex_lock(&p->nodes_mutex);
        greeting_fill(p, now_ms);
        greeting_send(p);
        for (uint32_t i = 0; i < p->nodes_count; i++) {
            if (p->nodes[i] != p->options.node) greeting_look_after(p, p->nodes[i], now_ms);
        }
        pthread_mutex_unlock(&p->nodes_mutex);
        greeting_pace(p, now_ms);
        doorbell_sleep(&p->bell, PEER_HELLO_MS);
        const struct timespec spacing = {0, GREETING_SPACING_MS * 1000000L};
        nanosleep(&spacing, NULL);
    }
    return NULL;
}

int greeting_start(struct node_peers *p) {
    int rc = pthread_create(&p->greeter, NULL, greeting_main, p);
    p->greeter_runs = rc == 0;
    return rc;
}

void greeting_stop(struct node_peers *p) {
    atomic_store(&p->stopping, true);
    if (!p->greeter_runs) return;
    doorbell_ring(&p->bell);
    int rc = pthread_join(p->greeter, NULL);
    require(rc == 0);
    p->greeter_runs = false;
}
