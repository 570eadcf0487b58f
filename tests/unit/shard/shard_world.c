#include "tests/unit/shard/shard_world.h"

#include <stdio.h>

#include "engine/wire/routing.h"

static const struct routing_epoch epoch = {0, WORLD_SHARDS};

static void courier_put(struct courier *c, struct world_message m, struct bytes payload) {
    struct world *w = (struct world *)(void *)c;
    if (w->courier_is_down || w->messages_count == WORLD_COURIER_MAX) return;
    m.bytes = payload.size;
    m.payload = malloc(payload.size + 1);
    if (payload.size) memcpy(m.payload, payload.data, payload.size);
    w->messages[w->messages_count++] = m;
}

static void courier_send(struct courier *c, uint32_t from, uint32_t to, uint64_t sequence,
                         struct bytes payload) {
    courier_put(c, (struct world_message){from, to, false, sequence, NULL, 0}, payload);
}

static void courier_acknowledge(struct courier *c, uint32_t from, uint32_t to, uint64_t sequence) {
    courier_put(c, (struct world_message){from, to, true, sequence, NULL, 0}, (struct bytes){0});
}

void world_open(struct world *w, const struct storage_memory_options *disk) {
    *w = (struct world){.courier = {courier_send, courier_acknowledge}, .disk_options = *disk,
                        .mono_ms = 1000, .now_ms = 1750000000000};
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) {
        w->disk_options.seed = disk->seed + s;
        w->disks[s] = storage_memory_new(&w->disk_options);
    }
    w->options = (struct shard_options){.shards_count = WORLD_SHARDS, .server_id = 1,
                                        .courier = &w->courier, .seed = 5};
    world_start(w);
}

void world_start(struct world *w) {
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) {
        char error[256] = "";
        struct shard_options options = w->options;
        options.id = s;
        options.storage = w->storages[s] = storage_memory_open(w->disks[s]);
        w->shards[s] = shard_open(&options, w->now_ms, w->mono_ms, error, sizeof error);
        if (!w->shards[s]) fprintf(stderr, "shard %u: %s\n", s, error);
        require(w->shards[s] != NULL);
    }
}

static void drop_messages(struct world *w) {
    for (uint32_t i = 0; i < w->messages_count; i++) free(w->messages[i].payload);
    w->messages_count = 0;
}

void world_crash(struct world *w) {
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) storage_memory_crash(w->disks[s]);
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) shard_close(w->shards[s]);
    drop_messages(w);
}

void world_close(struct world *w) {
    world_crash(w);
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) {
        require(storage_memory_fault(w->disks[s]) == NULL);
        storage_memory_free(w->disks[s]);
    }
}

bool world_round(struct world *w) {
    bool busy = false;
    uint32_t count = w->messages_count;
    struct world_message *messages = malloc((count + 1) * sizeof *messages);
    memcpy(messages, w->messages, count * sizeof *messages);
    w->messages_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct world_message *m = &messages[i];
        if (m->acknowledgement) shard_offer_acknowledgement(w->shards[m->to], m->from, m->sequence);
        else shard_offer_message(w->shards[m->to], m->from, m->sequence,
                                 bytes_of(m->payload, m->bytes));
        free(m->payload);
    }
    free(messages);
    for (uint32_t s = 0; s < WORLD_SHARDS; s++) {
        int64_t next;
        storage_memory_advance(w->disks[s], w->mono_ms);
        busy |= shard_work(w->shards[s], w->now_ms, w->mono_ms, &next) > 0;
    }
    return busy || w->messages_count > 0;
}

void world_run(struct world *w, int64_t ms) {
    for (int64_t i = 0; i < ms; i++) {
        for (int round = 0; round < 64 && world_round(w); round++) {}
        w->mono_ms++;
        w->now_ms++;
    }
}

struct id128 world_id(struct world *w) {
    struct id128 id = {{0}};
    uint64_t n = ++w->ids * 0x9e3779b97f4a7c15ULL;
    memcpy(id.bytes, &w->ids, 8);
    memcpy(id.bytes + 8, &n, 8);
    return id;
}

struct id128 world_key(struct world *w, uint32_t shard) {
    for (;;) {
        struct id128 key = world_id(w);
        for (int i = 0; i < 6; i++) key.bytes[i] = (uint8_t)(w->now_ms >> (40 - 8 * i));
        memcpy(key.bytes + 6, &w->ids, 2);
        if (routing_shard_of_key(&epoch, 1, &key) == shard) return key;
    }
}

void world_store(struct world *w, uint32_t shard, char store[16]) {
    do {
        snprintf(store, 16, "store-%u", (unsigned)(++w->ids % 100000));
    } while (routing_shard_of_store(WORLD_SHARDS, bytes_of_text(store)) != shard);
}

uint32_t world_shard_of(const struct command *c) {
    if (c->kind >= COMMAND_STORE_PAUSE) return routing_shard_of_store(WORLD_SHARDS, c->store.store);
    return routing_shard_of_key(&epoch, 1, &c->subject);
}

struct command world_command(struct world *w, uint8_t kind, struct id128 key) {
    struct command c = {.kind = kind, .subject = key};
    if (!command_is_read(kind)) c.id = world_id(w);
    return c;
}

struct command world_store_command(struct world *w, uint8_t kind, const char *store) {
    struct command c = world_command(w, kind, store_key(bytes_of_text(store), false));
    c.store.store = bytes_of_text(store);
    return c;
}

struct command world_place(struct world *w, struct id128 key, const char *store) {
    static const struct order_line lines[] = {{{"bibimbap", 8}, {"Bibimbap", 8}, 2, 9500}};
    struct command c = world_command(w, COMMAND_PLACE, key);
    c.place = (struct command_place){
        .fulfilment = FULFILMENT_PICKUP, .payment_timing = PAYMENT_ON_DELIVERY, .currency = "KRW",
        .store = bytes_of_text(store), .lines = lines, .lines_count = 1, .total = 19000};
    return c;
}

static void on_done(struct request *r) {
    struct ask *ask = (struct ask *)(void *)r;
    require(!ask->answered);
    ask->answered = true;
}

bool world_offer_message(struct world *w, struct ask *ask, struct command *commands,
                         struct result *results, uint32_t count) {
    ask->answered = false;
    ask->request = (struct request){.commands = commands, .results = results,
                                    .commands_count = count, .done = on_done};
    atomic_store(&ask->request.parts_left, 1);
    ask->part = (struct request_part){.request = &ask->request, .count = count, .bytes = 100};
    uint32_t retry;
    return shard_offer(w->shards[world_shard_of(commands)], &ask->part, &retry);
}

bool world_offer(struct world *w, struct ask *ask, const struct command *command) {
    *ask = (struct ask){.command = *command};
    return world_offer_message(w, ask, &ask->command, &ask->result, 1);
}

struct result world_ask(struct world *w, const struct command *command) {
    static struct ask ask;
    require(world_offer(w, &ask, command));
    for (int i = 0; i < 5000 && !ask.answered; i++) world_run(w, 1);
    require(ask.answered);
    free(ask.result.value);
    ask.result.value = ask.result.value ? &ask : NULL; /* only tells that there was one */
    return ask.result;
}

int64_t world_open_orders(struct world *w, const char *store) {
    uint32_t shard = world_shard_of(&(struct command){.kind = COMMAND_STORE_GET,
                                                      .store.store = bytes_of_text(store)});
    struct id128 key = store_key(bytes_of_text(store), false);
    uint32_t slot = actor_table_find(&w->shards[shard]->table, ACTOR_STORE, &key);
    if (slot == SLOT_NONE) return 0;
    struct store_view view;
    store_view(shard_actor(w->shards[shard], slot), &view);
    return view.open_orders;
}
