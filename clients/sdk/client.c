#include "clients/sdk/client.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clients/sdk/command_encode.h"
#include "clients/sdk/key.h"
#include "clients/sdk/map_fetch.h"
#include "clients/sdk/sdk_clock.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"

enum {
    CLOCK_IDLE_TICKS = 200,           /* then the clock's thread goes to sleep */
    CLOCK_PACED_TICKS = 20            /* it goes on looking so long for lanes that wait */
};
#define CLOSE_SETTLE_NS 200000000LL    /* for replies that are on their way */

/* -- inside ------------------------------------------------------------------------------------ */

/* Marks the calling thread as inside; false: the client is being closed. */
static bool client_enter(jumun_client *client) { return lane_shared_enter(&client->shared); }

static void client_leave(jumun_client *client) { lane_shared_leave(&client->shared); }

/* A thread of nng: a connection came or went. */
static void client_on_connection(void *arg, bool up) {
    jumun_client *client = arg;
    if (!client_enter(client)) return;
    if (up) {
        node_list_allow_probes(&client->shared.nodes);
        for (uint32_t i = 0; i < atomic_load(&client->router.lanes_count); i++) {
            struct lane *lane = atomic_load(&client->router.lanes[i]);
            struct endpoint *own = atomic_load(&lane->endpoint);
            if (own) circuit_breaker_allow_probe(&own->breaker);
        }
        if (client->node_lane) lane_run(client->node_lane);
        shard_router_run(&client->router);
    } else {
        /* A node that comes back may have moved its shards. */
        atomic_store(&client->shared.map_wanted, true);
    }
    client_leave(client);
}

/* -- one command on its way in ----------------------------------------------------------------- */

static void client_set_detail(jumun_result *result, const char *text) {
    if (result) snprintf(result->detail, sizeof result->detail, "%s", text);
}

static int client_encode(struct call *call, const jumun_command *c, const char **fault) {
    struct msgpack_writer w;
    call->bytes = call->inline_bytes;
    msgpack_writer_init(&w, call->bytes, call->inline_capacity);
    command_encode(&w, c, &call->id);
    if (!msgpack_writer_ok(&w)) {
        size_t capacity = command_encode_bytes_max(c);
        if (!(call->bytes = malloc(capacity))) {
            call->bytes = call->inline_bytes;
            return JUMUN_NO_MEMORY;
        }
        msgpack_writer_init(&w, call->bytes, capacity);
        command_encode(&w, c, &call->id);
        require(msgpack_writer_ok(&w));
    }
    call->size = (uint32_t)msgpack_writer_size(&w);
    if (msgpack_writer_size(&w) <= COMMAND_BYTES_MAX) return JUMUN_OK;
    *fault = "the command is over 1 MiB";
    return JUMUN_BAD_ARGUMENT;
}

static void client_set_route(struct call_route *route, const jumun_command *c) {
    if (command_is_for_store(c->kind)) {
        route->hash = routing_hash(c->store_id, strlen(c->store_id));
        route->birth_ms = INT64_MAX;
    } else {
        struct id128 key;
        memcpy(key.bytes, c->order.bytes, sizeof key.bytes);
        route->hash = routing_hash(key.bytes + 6, 10);
        route->birth_ms = routing_birth_ms(&key);
    }
}

static uint32_t client_patience_ms(const jumun_client *client, const jumun_command *c) {
    return c->options.timeout_ms ? c->options.timeout_ms : client->shared.options.timeout_ms;
}

/* What can be said before the command costs anything: under overload that is all that most of them
 * cost. */
static int client_admit(jumun_client *client, const jumun_command *c, struct call_route *route,
                        const char **fault) {
    *route = (struct call_route){0};
    if ((*fault = command_encode_fault(c))) return JUMUN_BAD_ARGUMENT;
    if (command_is_for_node(c->kind)) return JUMUN_OK;
    client_set_route(route, c);
    if (shard_router_has_room(&client->router, route, client_patience_ms(client, c)))
        return JUMUN_OK;
    return JUMUN_QUEUE_FULL;
}

/* Everything about an admitted call but who hears of its end. */
static int client_prepare(jumun_client *client, struct call *call, const jumun_command *c,
                          const struct call_route *route, int64_t now_ns, const char **fault) {
    call->bytes = call->inline_bytes;
    call->deadline_ns = now_ns + client_patience_ms(client, c) * 1000000LL;
    call->kind = (uint16_t)c->kind;
    call->id = c->options.id;
    call->route = *route;
    if (key_is_zero(&call->id)) call->id = key_new_command_id();
    return client_encode(call, c, fault);
}

static void client_wake_clock(jumun_client *client) {
    if (!atomic_load(&client->clock_asleep)) return;
    if (atomic_exchange(&client->clock_asleep, 0) == 0) return;
    syscall(SYS_futex, &client->clock_asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int client_push(jumun_client *client, struct call *call, int64_t now_ns) {
    if (command_is_for_node((jumun_kind)call->kind)) {
        /* No circuit stops these: a ping is how one asks whether the node is back. */
        lane_push(client->node_lane, call, CALL_NO_ORDER);
        client_wake_clock(client);
        return JUMUN_OK;
    }
    int code = shard_router_push(&client->router, call, now_ns);
    client_wake_clock(client);
    return code;
}

static void client_free_bytes(struct call *call) {
    if (call->bytes != call->inline_bytes) free(call->bytes);
}

static int client_submit(jumun_client *client, struct gathering *g, const jumun_command *command,
                         const struct call_route *route, jumun_callback callback, void *arg) {
    struct call *call = g ? call_reuse(g->recycler) : NULL;
    if (!call) call = call_pool_take(&client->shared.pool);
    if (!call) return JUMUN_NO_MEMORY;
    const char *fault = NULL;
    int64_t now_ns = clock_coarse_ns();
    call->callback = callback;
    call->arg = arg;
    int code = client_prepare(client, call, command, route, now_ns, &fault);
    if (code == JUMUN_OK) code = client_push(client, call, now_ns);
    if (code == JUMUN_OK) return JUMUN_OK;
    client_free_bytes(call);
    call_pool_give(&client->shared.pool, call, call);
    return code;
}

int jumun_submit(jumun_client *client, const jumun_command *command, jumun_callback callback,
                 void *arg) {
    if (!callback) return JUMUN_BAD_ARGUMENT;
    struct gathering *g = gathering_of(&client->shared); /* within a callback: inside already */
    if (!g && !client_enter(client)) return JUMUN_CLOSED;
    struct call_route route;
    const char *fault = NULL;
    int code = client_admit(client, command, &route, &fault);
    if (code == JUMUN_OK) code = client_submit(client, g, command, &route, callback, arg);
    if (!g) client_leave(client);
    return code;
}

uint32_t jumun_retry_after_ms(jumun_client *client, const jumun_command *command) {
    struct call_route route;
    if (!client_enter(client)) return 0;
    uint32_t ms = 0;
    if (!command_encode_fault(command) && !command_is_for_node(command->kind)) {
        client_set_route(&route, command);
        ms = shard_router_retry_after_ms(&client->router, &route,
                                         client_patience_ms(client, command));
    }
    client_leave(client);
    return ms;
}

/* The part of a synchronous call before its wait: the only part inside the library, so that closing
 * needs to wait for no caller that waits. */
static int client_call_begin(jumun_client *client, struct call *call, const jumun_command *command,
                             jumun_result *result) {
    if (!client_enter(client)) return JUMUN_CLOSED;
    const char *fault = NULL;
    int64_t now_ns = clock_coarse_ns();
    atomic_int *returning = &client->shared.returning;
    struct call_route route;
    int code = client_admit(client, command, &route, &fault);
    call->bytes = call->inline_bytes;
    if (code == JUMUN_OK) code = client_prepare(client, call, command, &route, now_ns, &fault);
    result->id = code == JUMUN_OK ? call->id : command->options.id;
    if (fault) client_set_detail(result, fault);
    if (atomic_load_explicit(returning, memory_order_relaxed) > 0)
        atomic_fetch_sub_explicit(returning, 1, memory_order_relaxed);
    if (code == JUMUN_OK) code = client_push(client, call, now_ns);
    if (code == JUMUN_QUEUE_FULL) {
        uint32_t ms = shard_router_retry_after_ms(&client->router, &route,
                                                  client_patience_ms(client, command));
        result->retry_after_ms = ms ? ms : 1;
    }
    if (code != JUMUN_OK) client_free_bytes(call);
    client_leave(client);
    return code;
}

int jumun_call(jumun_client *client, const jumun_command *command, jumun_result *result,
               void **value, size_t *value_bytes) {
    _Alignas(struct call) uint8_t frame[sizeof(struct call) + CALL_FRAME_BYTES];
    struct call *call = (struct call *)frame;
    jumun_result unwanted;
    size_t unwanted_bytes;
    if (!result) result = &unwanted;
    if (value) *value = NULL;
    if (value_bytes) *value_bytes = 0;
    memset(call, 0, sizeof *call);
    call->origin = CALL_FROM_CALLER;
    call->inline_capacity = CALL_FRAME_BYTES;
    call->result = result;
    call->value = value;
    call->value_bytes = value_bytes ? value_bytes : &unwanted_bytes;
    *result = (jumun_result){0};
    int code = client_call_begin(client, call, command, result);
    if (code != JUMUN_OK) {
        result->code = code;
        return code;
    }
    call_wait(call);
    return result->code;
}

int jumun_ping(jumun_client *client, uint32_t timeout_ms) {
    jumun_command ping = {.kind = JUMUN_NODE_PING, .options = {.timeout_ms = timeout_ms}};
    return jumun_call(client, &ping, NULL, NULL, NULL);
}

/* -- the clock --------------------------------------------------------------------------------- */

static bool client_on_tick(jumun_client *client) {
    int64_t now_ns = clock_coarse_ns();
    if (now_ns - client->looked_ns >= ENDPOINT_LOOK_NS) {
        client->looked_ns = now_ns;
        node_list_look(&client->shared.nodes, now_ns);
        shard_router_look(&client->router, now_ns);
    }
    map_fetch_on_tick(client, now_ns);
    bool open = lane_on_tick(client->node_lane, now_ns);
    open |= shard_router_on_tick(&client->router, now_ns);
    return open || atomic_load(&client->router.map) == NULL ||
           atomic_load(&client->shared.map_wanted);
}

/* Until the next tick. Where answers take long, lanes are looked at in between: `paced` counts
 * down the ticks for which that goes on. */
static void client_clock_sleep(jumun_client *client, uint32_t *paced) {
    if (shard_router_on_pace(&client->router)) *paced = CLOCK_PACED_TICKS;
    if (*paced == 0) {
        nanosleep(&(struct timespec){.tv_nsec = LANE_TICK_NS}, NULL);
        return;
    }
    (*paced)--;
    for (int64_t slept_ns = 0; slept_ns < LANE_TICK_NS; slept_ns += LANE_PACE_NS) {
        nanosleep(&(struct timespec){.tv_nsec = LANE_PACE_NS}, NULL);
        shard_router_on_pace(&client->router);
    }
}

static void *client_clock(void *arg) {
    jumun_client *client = arg;
    uint32_t idle = 0, paced = 0;
    while (!atomic_load(&client->shared.closing)) {
        idle = client_on_tick(client) ? 0 : idle + 1;
        if (idle < CLOCK_IDLE_TICKS) {
            client_clock_sleep(client, &paced);
            continue;
        }
        /* Announce the sleep, look once more, then sleep: a caller pushes first and looks then. */
        atomic_store(&client->clock_asleep, 1);
        if (client_on_tick(client) || atomic_load(&client->shared.closing)) {
            atomic_store(&client->clock_asleep, 0);
        } else {
            syscall(SYS_futex, &client->clock_asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
        }
        idle = 0;
    }
    return NULL;
}

/* -- open and close ---------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void *open_failed(char *error, size_t error_bytes,
                                                               const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (error && error_bytes) vsnprintf(error, error_bytes, format, args);
    va_end(args);
    return NULL;
}

static uint32_t or_default(uint32_t value, uint32_t fallback) { return value ? value : fallback; }

static jumun_options options_filled(const jumun_options *given) {
    jumun_options o = given ? *given : (jumun_options){0};
    o.timeout_ms = or_default(o.timeout_ms, 5000);
    o.attempt_timeout_ms = or_default(o.attempt_timeout_ms, 1000);
    o.batch_commands_max = or_default(o.batch_commands_max, 128);
    o.messages_in_flight_max = or_default(o.messages_in_flight_max, 8);
    o.queue_commands_max = or_default(o.queue_commands_max, 65536);
    o.backoff_ms_min = or_default(o.backoff_ms_min, 10);
    o.backoff_ms_max = or_default(o.backoff_ms_max, 500);
    o.circuit_failures = or_default(o.circuit_failures, 20);
    o.circuit_open_ms = or_default(o.circuit_open_ms, 1000);
    return o;
}

static const char *options_fault(const jumun_options *o) {
    if (o->batch_commands_max > BATCH_COMMANDS_MAX) return "batch_commands_max is over 1,024";
    if (o->messages_in_flight_max > LANE_MESSAGES_MAX) return "messages_in_flight_max is over 64";
    if (o->backoff_ms_max < o->backoff_ms_min) return "backoff_ms_max is below backoff_ms_min";
    return NULL;
}

static bool client_start(jumun_client *client, const char *endpoints, char *error,
                         size_t error_bytes) {
    char why[CONNECTION_ERROR_BYTES] = "";
    if (!(client->node_lane = lane_new(&client->shared, NULL))) {
        open_failed(error, error_bytes, "no memory for a client");
        return false;
    }
    if (node_list_add(&client->shared.nodes, endpoints, why, sizeof why) != 0) {
        open_failed(error, error_bytes, "%s", why);
        lane_delete(client->node_lane);
        return false;
    }
    if (pthread_create(&client->clock, NULL, client_clock, client) != 0) {
        open_failed(error, error_bytes, "cannot start a thread");
        atomic_store(&client->shared.closing, true);
        lane_delete(client->node_lane);
        return false;
    }
    return true;
}

jumun_client *jumun_open(const char *endpoints, const jumun_options *options, char *error,
                         size_t error_bytes) {
    jumun_options filled = options_filled(options);
    const char *fault = options_fault(&filled);
    if (fault) return open_failed(error, error_bytes, "%s", fault);
    if (!endpoints) return open_failed(error, error_bytes, "the endpoint is missing");
    for (const char *at = endpoints; *at; at += strcspn(at, ",") + (strchr(at, ',') != NULL))
        if (strcspn(at, ",") >= ENDPOINT_ADDRESSES_BYTES)
            return open_failed(error, error_bytes, "an endpoint is over 255 bytes");
    if (endpoint_addresses_are_bad(endpoints, error, error_bytes)) return NULL;
    jumun_client *client = aligned_alloc(64, (sizeof *client + 63) / 64 * 64);
    if (!client) return open_failed(error, error_bytes, "no memory for a client");
    memset(client, 0, sizeof *client);
    client->shared.options = filled;
    node_list_init(&client->shared.nodes, &client->shared.options, client_on_connection, client);
    map_fetch_init(client);
    call_pool_init(&client->shared.pool);
    shard_router_init(&client->router, &client->shared, client_on_connection, client);
    if (client_start(client, endpoints, error, error_bytes)) return client;
    shard_router_fini(&client->router);
    node_list_fini(&client->shared.nodes);
    call_pool_fini(&client->shared.pool);
    free(client);
    return NULL;
}

void jumun_close(jumun_client *client) {
    if (!client) return;
    atomic_store(&client->shared.closing, true);
    for (int i = 0; i < CALL_POOL_STRIPES; i++)
        while (atomic_load(&client->shared.inside[i].count) != 0) sched_yield();
    atomic_store(&client->clock_asleep, 0);
    syscall(SYS_futex, &client->clock_asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    pthread_join(client->clock, NULL);
    client->shared.settle_until_ns = clock_mono_ns() + CLOSE_SETTLE_NS;
    lane_delete(client->node_lane);
    shard_router_fini(&client->router);
    node_list_fini(&client->shared.nodes);
    call_pool_fini(&client->shared.pool);
    free(client);
}

/* -- tokens ------------------------------------------------------------------------------------ */

uint32_t jumun_session_tokens(jumun_client *client, jumun_token *tokens, uint32_t tokens_max) {
    jumun_token all[SHARDS_MAX];
    uint32_t count = token_set_list(&client->shared.written, NULL, all);
    for (uint32_t i = 0; i < count && i < tokens_max; i++) tokens[i] = all[i];
    return count;
}

void jumun_session_demand(jumun_client *client, const jumun_token *tokens, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        token_set_raise(&client->shared.written, tokens[i].shard, tokens[i].index);
}

/* -- looking at it ----------------------------------------------------------------------------- */

static void stats_add_lane(jumun_client_stats *s, struct lane *lane) {
    s->commands += atomic_load(&lane->stat_commands);
    s->messages += atomic_load(&lane->stat_messages);
    s->replies += atomic_load(&lane->stat_replies);
    s->commands_waiting += atomic_load(&lane->waiting);
    s->commands_in_flight += atomic_load(&lane->stat_in_flight_commands);
}

void jumun_stats(jumun_client *client, jumun_client_stats *stats) {
    *stats = (jumun_client_stats){0};
    struct lane_shared *shared = &client->shared;
    stats->retries = atomic_load(&shared->retries);
    stats->timeouts = atomic_load(&shared->timeouts);
    stats->circuit_opened = atomic_load(&shared->circuit_opened);
    stats->queue_full = atomic_load(&shared->queue_full);
    stats_add_lane(stats, client->node_lane);
    if (!atomic_load(&client->router.map)) return;
    stats->shards = atomic_load(&client->router.lanes_count);
    for (uint32_t i = 0; i < stats->shards; i++)
        stats_add_lane(stats, atomic_load(&client->router.lanes[i]));
}
