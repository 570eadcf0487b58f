/* Reading msgpack answers by the names of their fields.
 *
 * Answers grow fields with time, so every reader is tolerant: what is missing or of another type
 * reads as the fallback. The objects belong to the msgpack zone of the caller. */
#ifndef JUMUN_CLI_VALUE_H
#define JUMUN_CLI_VALUE_H

#include <jansson.h>
#include <msgpack.h>
#include <stdbool.h>

/* The value at a path of map keys joined by dots, "disk.log_bytes"; NULL if it is not there. A NULL
 * `map` is allowed everywhere. */
const msgpack_object *value_at(const msgpack_object *map, const char *path);

int64_t value_int(const msgpack_object *map, const char *path, int64_t fallback);
double value_number(const msgpack_object *map, const char *path, double fallback);
bool value_bool(const msgpack_object *map, const char *path, bool fallback);
/* Copies text, made printable, into the buffer; "" if missing. Numbers are written out. */
char *value_text(const msgpack_object *map, const char *path, char *buffer, size_t bytes);
/* As value_text for any object; 16 bytes of binary are shown as a key. */
char *value_show(const msgpack_object *value, char *buffer, size_t bytes);

/* An array's items; 0 for anything else. */
uint32_t value_count(const msgpack_object *array);
const msgpack_object *value_item(const msgpack_object *array, uint32_t i);

/* The whole answer as JSON: 16 bytes of binary as a key's text, other binary as {"hex": "..."}.
 * A new reference; NULL without memory. */
json_t *value_to_json(const msgpack_object *value);

/* JSON into msgpack. False for what has no msgpack form or without memory. */
bool value_from_json(msgpack_packer *packer, const json_t *json);

#endif
