#include "clients/cli/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/text.h"
#include "clients/sdk/jumun.h"
#include "engine/base/hex.h"

static const msgpack_object *value_field(const msgpack_object *map, const char *name, size_t size) {
    if (!map || map->type != MSGPACK_OBJECT_MAP) return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];
        if (kv->key.type == MSGPACK_OBJECT_STR && kv->key.via.str.size == size &&
            memcmp(kv->key.via.str.ptr, name, size) == 0) {
            return &kv->val;
        }
    }
    return NULL;
}

const msgpack_object *value_at(const msgpack_object *map, const char *path) {
    while (map && *path) {
        size_t size = strcspn(path, ".");
        map = value_field(map, path, size);
        path += size + (path[size] == '.');
    }
    return map;
}

int64_t value_int(const msgpack_object *map, const char *path, int64_t fallback) {
    const msgpack_object *v = value_at(map, path);
    if (!v) return fallback;
    if (v->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        return v->via.u64 > INT64_MAX ? INT64_MAX : (int64_t)v->via.u64;
    }
    if (v->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) return v->via.i64;
    if (v->type == MSGPACK_OBJECT_FLOAT32 || v->type == MSGPACK_OBJECT_FLOAT64) {
        return v->via.f64 > -9e18 && v->via.f64 < 9e18 ? (int64_t)v->via.f64 : fallback;
    }
    return fallback;
}

double value_number(const msgpack_object *map, const char *path, double fallback) {
    const msgpack_object *v = value_at(map, path);
    if (!v) return fallback;
    if (v->type == MSGPACK_OBJECT_FLOAT32 || v->type == MSGPACK_OBJECT_FLOAT64) return v->via.f64;
    if (v->type == MSGPACK_OBJECT_POSITIVE_INTEGER) return (double)v->via.u64;
    if (v->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) return (double)v->via.i64;
    return fallback;
}

bool value_bool(const msgpack_object *map, const char *path, bool fallback) {
    const msgpack_object *v = value_at(map, path);
    if (!v) return fallback;
    if (v->type == MSGPACK_OBJECT_BOOLEAN) return v->via.boolean;
    return value_int(map, path, fallback) != 0;
}

static void value_key_text(const msgpack_object *v, char text[JUMUN_KEY_TEXT_BYTES]) {
    jumun_key key;
    memcpy(key.bytes, v->via.bin.ptr, sizeof key.bytes);
    jumun_key_format(&key, text);
}

char *value_show(const msgpack_object *v, char *buffer, size_t bytes) {
    buffer[0] = 0;
    if (!v) return buffer;
    switch (v->type) {
    case MSGPACK_OBJECT_STR:
        return text_printable(buffer, bytes, v->via.str.ptr, v->via.str.size);
    case MSGPACK_OBJECT_BIN:
        if (v->via.bin.size == 16) {
            char text[JUMUN_KEY_TEXT_BYTES];
            value_key_text(v, text);
            snprintf(buffer, bytes, "%s", text);
        } else {
            snprintf(buffer, bytes, "%u bytes", v->via.bin.size);
        }
        return buffer;
    case MSGPACK_OBJECT_BOOLEAN:
        snprintf(buffer, bytes, "%s", v->via.boolean ? "yes" : "no");
        return buffer;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        snprintf(buffer, bytes, "%" PRIu64, v->via.u64);
        return buffer;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        snprintf(buffer, bytes, "%" PRId64, v->via.i64);
        return buffer;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        snprintf(buffer, bytes, "%g", v->via.f64);
        return buffer;
    default:
        return buffer;
    }
}

char *value_text(const msgpack_object *map, const char *path, char *buffer, size_t bytes) {
    return value_show(value_at(map, path), buffer, bytes);
}

uint32_t value_count(const msgpack_object *array) {
    return array && array->type == MSGPACK_OBJECT_ARRAY ? array->via.array.size : 0;
}

const msgpack_object *value_item(const msgpack_object *array, uint32_t i) {
    return i < value_count(array) ? &array->via.array.ptr[i] : NULL;
}

static json_t *value_hex(const void *data, uint32_t size) {
    char *hex = malloc((size_t)size * 2 + 1);
    if (!hex) return NULL;
    hex_format(data, size, hex);
    json_t *out = json_pack("{s:s}", "hex", hex);
    free(hex);
    return out;
}

static json_t *value_map_to_json(const msgpack_object_map *map) {
    json_t *out = json_object();
    for (uint32_t i = 0; out && i < map->size; i++) {
        char name[512];
        const msgpack_object *key = &map->ptr[i].key;
        json_t *v = value_to_json(&map->ptr[i].val);
        int failed = key->type == MSGPACK_OBJECT_STR
            ? json_object_setn_new(out, key->via.str.ptr, key->via.str.size, v)
            : json_object_set_new(out, value_show(key, name, sizeof name), v);
        /* Fails for names that are not UTF-8 too: such a field is left out, the rest is shown. */
        (void)failed;
    }
    return out;
}

static json_t *value_uint_to_json(uint64_t n) {
    if (n <= INT64_MAX) return json_integer((json_int_t)n);
    return json_real((double)n);
}

json_t *value_to_json(const msgpack_object *v) {
    if (!v) return json_null();
    switch (v->type) {
    case MSGPACK_OBJECT_NIL: return json_null();
    case MSGPACK_OBJECT_BOOLEAN: return json_boolean(v->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER: return value_uint_to_json(v->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return json_integer(v->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: return json_real(v->via.f64);
    case MSGPACK_OBJECT_STR: {
        json_t *text = json_stringn(v->via.str.ptr, v->via.str.size);
        return text ? text : value_hex(v->via.str.ptr, v->via.str.size);
    }
    case MSGPACK_OBJECT_BIN: {
        if (v->via.bin.size != 16) return value_hex(v->via.bin.ptr, v->via.bin.size);
        char text[JUMUN_KEY_TEXT_BYTES];
        value_key_text(v, text);
        return json_string(text);
    }
    case MSGPACK_OBJECT_EXT: return value_hex(v->via.ext.ptr, v->via.ext.size);
    case MSGPACK_OBJECT_MAP: return value_map_to_json(&v->via.map);
    case MSGPACK_OBJECT_ARRAY: {
        json_t *out = json_array();
        for (uint32_t i = 0; out && i < v->via.array.size; i++) {
            json_array_append_new(out, value_to_json(&v->via.array.ptr[i]));
        }
        return out;
    }
    }
    return json_null();
}

bool value_from_json(msgpack_packer *p, const json_t *json) {
    switch (json_typeof(json)) {
    case JSON_NULL: return msgpack_pack_nil(p) == 0;
    case JSON_TRUE: return msgpack_pack_true(p) == 0;
    case JSON_FALSE: return msgpack_pack_false(p) == 0;
    case JSON_INTEGER: return msgpack_pack_int64(p, json_integer_value(json)) == 0;
    case JSON_REAL: return msgpack_pack_double(p, json_real_value(json)) == 0;
    case JSON_STRING: {
        size_t size = json_string_length(json);
        return msgpack_pack_str(p, size) == 0 &&
               msgpack_pack_str_body(p, json_string_value(json), size) == 0;
    }
    case JSON_ARRAY: {
        if (msgpack_pack_array(p, json_array_size(json)) != 0) return false;
        for (size_t i = 0; i < json_array_size(json); i++) {
            if (!value_from_json(p, json_array_get(json, i))) return false;
        }
        return true;
    }
    case JSON_OBJECT: {
        const char *name;
        json_t *item;
        if (msgpack_pack_map(p, json_object_size(json)) != 0) return false;
        json_object_foreach((json_t *)json, name, item) {
            size_t size = strlen(name);
            if (msgpack_pack_str(p, size) != 0 || msgpack_pack_str_body(p, name, size) != 0 ||
                !value_from_json(p, item)) {
                return false;
            }
        }
        return true;
    }
    }
    return false;
}
