#include "tests/process/answers.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "actors/result_codes.h"
#include "tests/process/node_process.h"

enum { ANSWER_SECONDS_MAX = 60 };

bool answer_is_passing(int code) {
    switch (code) {
    case RESULT_OVERLOADED:
    case RESULT_NOT_READY:
    case RESULT_DISK_FULL:
    case RESULT_SHUTTING_DOWN:
    case RESULT_DEADLINE_PASSED:
    case RESULT_OUT_OF_MEMORY:
    case JUMUN_OUTCOME_UNKNOWN:
    case JUMUN_NOT_SENT:
    case JUMUN_CIRCUIT_OPEN:
    case JUMUN_QUEUE_FULL: return true;
    default: return false;
    }
}

static const msgpack_object *answer_field(const msgpack_object *map, const char *name) {
    if (map->type != MSGPACK_OBJECT_MAP) return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];
        if (kv->key.type == MSGPACK_OBJECT_STR && kv->key.via.str.size == strlen(name) &&
            memcmp(kv->key.via.str.ptr, name, strlen(name)) == 0) {
            return &kv->val;
        }
    }
    return NULL;
}

static bool answer_number(const msgpack_object *map, const char *name, int64_t *value) {
    const msgpack_object *v = answer_field(map, name);
    if (!v || (v->type != MSGPACK_OBJECT_POSITIVE_INTEGER &&
               v->type != MSGPACK_OBJECT_NEGATIVE_INTEGER)) {
        return false;
    }
    *value = v->via.i64;
    return true;
}

/* Runs a read until it has a lasting answer; *value is malloc'ed or NULL. */
static int answer_read(jumun_client *client, const jumun_command *command, void **value,
                       size_t *bytes) {
    int64_t until = monotonic_ms() + ANSWER_SECONDS_MAX * 1000;
    for (;;) {
        jumun_result result;
        *value = NULL;
        int code = jumun_call(client, command, &result, value, bytes);
        if (!answer_is_passing(code) || monotonic_ms() > until) return code;
        free(*value);
        sleep_ms(20);
    }
}

static bool answer_event_decode(const msgpack_object *o, struct answer_event *event) {
    int64_t version, index;
    const msgpack_object *cause = answer_field(o, "cause");
    if (!answer_number(o, "version", &version) || !answer_number(o, "index", &index)) return false;
    *event = (struct answer_event){.version = (uint32_t)version, .index = (uint64_t)index};
    if (cause && cause->type == MSGPACK_OBJECT_BIN && cause->via.bin.size == 16) {
        memcpy(event->cause.bytes, cause->via.bin.ptr, 16);
    } else if (cause && cause->type != MSGPACK_OBJECT_NIL) {
        return false;
    }
    return true;
}

int answer_history(jumun_client *client, const jumun_key *order, struct answer_history *history) {
    jumun_command command = {.kind = JUMUN_HISTORY, .order = *order};
    void *value;
    size_t bytes = 0;
    history->count = 0;
    int code = answer_read(client, &command, &value, &bytes);
    if (code != JUMUN_OK) {
        free(value);
        return code;
    }
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    code = JUMUN_BAD_REPLY;
    if (value && msgpack_unpack_next(&unpacked, value, bytes, NULL) == MSGPACK_UNPACK_SUCCESS &&
        unpacked.data.type == MSGPACK_OBJECT_ARRAY &&
        unpacked.data.via.array.size <= ANSWER_EVENTS_MAX) {
        const msgpack_object_array *events = &unpacked.data.via.array;
        code = JUMUN_OK;
        for (uint32_t i = 0; i < events->size && code == JUMUN_OK; i++) {
            if (!answer_event_decode(&events->ptr[i], &history->events[history->count++])) {
                code = JUMUN_BAD_REPLY;
            }
        }
    }
    msgpack_unpacked_destroy(&unpacked);
    free(value);
    return code;
}

int answer_store(jumun_client *client, const char *store, int64_t *open_orders, int64_t *placed) {
    jumun_command command = {.kind = JUMUN_STORE_GET, .store_id = store};
    void *value;
    size_t bytes = 0;
    int code = answer_read(client, &command, &value, &bytes);
    if (code == JUMUN_OK) {
        msgpack_unpacked unpacked;
        msgpack_unpacked_init(&unpacked);
        if (!value ||
            msgpack_unpack_next(&unpacked, value, bytes, NULL) != MSGPACK_UNPACK_SUCCESS ||
            !answer_number(&unpacked.data, "open_orders", open_orders) ||
            !answer_number(&unpacked.data, "placed_orders", placed)) {
            code = JUMUN_BAD_REPLY;
        }
        msgpack_unpacked_destroy(&unpacked);
    }
    free(value);
    return code;
}
