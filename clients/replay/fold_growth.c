#include "clients/replay/fold_growth.h"

#include <stdio.h>

static bool bit_of(const uint8_t *bits, uint32_t n) { return bits[n / 8] >> (n % 8) & 1; }

void growth_know(struct fold_growth *g, uint32_t peer) {
    if (peer < SHARDS_MAX && peer >= g->peers_count) g->peers_count = peer + 1;
}

/* Whom a question goes to: as engine/shard/shard_growth.c has it. */
static bool growth_is_asked(const struct fold_growth *g, uint32_t p, uint8_t what) {
    if (p == g->shard) return false;
    if (p < g->spread.shards) return true;
    return bit_of(g->active, p) && (what == STORE_ASK_STORES || p < g->spread.before);
}

static bool growth_asks_any(const struct fold_growth *g, uint8_t what) {
    for (uint32_t p = 0; p < SHARDS_MAX; p++) {
        if (growth_is_asked(g, p, what)) return true;
    }
    return false;
}

void growth_apply_known(struct fold_growth *g, const struct event *e) {
    const struct shards_known *k = event_payload(e);
    if (g->version < k->version) g->version = k->version;
    memcpy(g->active, k->active, sizeof g->active);
    for (uint32_t p = 0; p < SHARDS_MAX; p++) {
        if (bit_of(g->active, p)) growth_know(g, p);
    }
    if (g->spread.version == 0) g->spread.shards = k->first_shards;
    if (store_spread_adopt(&g->spread, k->version, k->stores_shards)) {
        growth_know(g, k->stores_shards - 1);
        if (g->shard < k->stores_shards) g->needs_stores = growth_asks_any(g, STORE_ASK_STORES);
    }
    if (k->joined_ms == g->joined_ms) return;
    g->joined_ms = k->joined_ms;
    g->needs_boards = k->joined_ms != 0 && growth_asks_any(g, STORE_ASK_BOARDS);
}

void growth_apply_sent(struct fold_growth *g, uint32_t peer, struct bytes message) {
    struct store_message_head head;
    growth_know(g, peer);
    if (!store_message_head(message, &head)) return;
    if (head.kind == STORE_MESSAGE_DONE) {
        g->peers[peer].owes &= (uint8_t)~head.what;
    } else if (head.kind == STORE_MESSAGE_ASKED) {
        bool boards = head.what == STORE_ASK_BOARDS;
        g->peers[peer].awaits |= head.what;
        *(boards ? &g->needs_boards : &g->needs_stores) = false;
        *(boards ? &g->boards_asked : &g->stores_asked) = head.asked;
    }
}

void growth_apply_seen(struct fold_growth *g, uint32_t peer, struct bytes message) {
    struct store_message_head head;
    struct growth_peer *p = &g->peers[peer];
    growth_know(g, peer);
    if (!store_message_head(message, &head)) return;
    bool boards = head.what == STORE_ASK_BOARDS;
    if (head.kind == STORE_MESSAGE_ASKED) {
        uint64_t *asked = boards ? &p->boards_asked : &p->stores_asked;
        if (*asked < head.asked) *asked = head.asked;
        if (boards) g->active[peer / 8] |= (uint8_t)(1u << peer % 8);
        p->owes |= head.what;
    } else if (head.kind == STORE_MESSAGE_DONE) {
        /* An answer to an older question is none. */
        if (head.asked >= (boards ? g->boards_asked : g->stores_asked)) {
            p->awaits &= (uint8_t)~head.what;
        }
    }
}

/* -- cursors ------------------------------------------------------------------------------ */

bool growth_is_known(const struct fold_growth *g) { return g->version != 0 || g->spread.version; }

uint32_t growth_known_cursor(const struct fold_growth *g, uint8_t out[GROWTH_CURSOR_BYTES_MAX]) {
    uint64_t known[8] = {g->version, (uint64_t)g->joined_ms, g->boards_asked,
                         (g->needs_boards ? STORE_ASK_BOARDS : 0) |
                             (g->needs_stores ? STORE_ASK_STORES : 0)};
    static_assert(sizeof g->active == 4 * sizeof known[0], "the bits fit the cursor");
    memcpy(&known[4], g->active, sizeof g->active);
    memcpy(out, known, sizeof known);
    return sizeof known;
}

uint32_t growth_spread_cursor(const struct fold_growth *g, uint8_t out[GROWTH_CURSOR_BYTES_MAX]) {
    const uint64_t spread[4] = {g->spread.version, g->spread.shards, g->spread.before,
                                g->stores_asked};
    memcpy(out, spread, sizeof spread);
    return sizeof spread;
}

uint32_t growth_peer_cursor(const struct fold_growth *g, uint32_t peer,
                            uint8_t out[GROWTH_CURSOR_BYTES_MAX]) {
    const struct growth_peer *p = &g->peers[peer];
    const uint64_t grow[3] = {p->boards_asked, p->stores_asked,
                              (uint64_t)p->owes | (uint64_t)p->awaits << 2};
    memcpy(out, grow, sizeof grow);
    return sizeof grow;
}

bool growth_load_cursor(struct fold_growth *g, const char *name, const void *value,
                        uint32_t bytes) {
    uint64_t v[8] = {0};
    unsigned peer;
    if (bytes > sizeof v) return false;
    memcpy(v, value, bytes);
    if (strcmp(name, "known") == 0 && bytes == 64) {
        g->version = v[0];
        g->joined_ms = (int64_t)v[1];
        g->boards_asked = v[2];
        g->needs_boards = v[3] & STORE_ASK_BOARDS;
        g->needs_stores = v[3] & STORE_ASK_STORES;
        memcpy(g->active, &v[4], sizeof g->active);
        for (uint32_t p = 0; p < SHARDS_MAX; p++) {
            if (bit_of(g->active, p)) growth_know(g, p);
        }
        return true;
    }
    if (strcmp(name, "spread") == 0 && bytes == 32) {
        g->spread = (struct store_spread){v[0], (uint32_t)v[1], (uint32_t)v[2]};
        g->stores_asked = v[3];
        return true;
    }
    if (sscanf(name, "grow.%u", &peer) != 1 || peer >= SHARDS_MAX || bytes != 24) return false;
    growth_know(g, peer);
    g->peers[peer] = (struct growth_peer){v[0], v[1], v[2] & 3, v[2] >> 2 & 3};
    return true;
}
