/* An event is first the msgpack of the wire (engine/wire/event_encode.h), taken apart into fields
 * by name; what was asked for is put together again in the format. */
#include "clients/replay/export_write.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/ulid.h"
#include "engine/wire/event_encode.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/msgpack_reader.h"

enum { EXPORT_FIELDS_MAX = 96, EXPORT_NAME_BYTES = 64, EXPORT_CONTEXT_BYTES = 512 };

/* A value in the writer's buffer. */
struct export_field {
    char name[EXPORT_NAME_BYTES]; /* "info.total" for what stands in info */
    const uint8_t *value;
    size_t bytes;
};

struct export_writer {
    FILE *out;
    enum export_format format;
    bool head_written, masked;
    char wanted[EXPORT_FIELDS_MAX][EXPORT_NAME_BYTES];
    uint32_t wanted_count;
    uint8_t *buffer, *packed;
    size_t capacity;
    struct export_field fields[EXPORT_FIELDS_MAX];
    uint32_t count;
};

static const char export_csv_fields[] =
    "shard,index,time_ms,subject,version,action,state,cause_kind,cause,info.store,info.customer,"
    "info.currency,info.total,info.amount,info.captured,info.refunded,info.reason";

/* What every event has or may have. */
static const char *const writer_fields[] = {
    "shard", "index", "time_ms", "subject", "version", "action", "state", "cause", "cause_kind",
    "trace", "store", "customer", "republished", NULL};
/* What kinds of events add below "info." (engine/wire/event_encode.c). */
static const char *const writer_info_fields[] = {
    "acceptance_timeout_ms", "active", "amount", "attributes", "auto_complete_ms", "by",
    "captured", "code", "code_name", "command", "currency", "customer", "discounts",
    "end_deadline_ms", "expected_version", "external_ref", "fees", "fulfilment", "group",
    "held_deadline_ms", "joined_ms", "lines", "lines_total", "method", "note", "part", "payload",
    "payment_state", "payment_timeout_ms", "payment_timing", "payments", "peer",
    "ready_estimate_ms", "reason", "reference", "refund_owed", "refunded", "rider", "sequence",
    "step_deadline_ms", "store", "stores_shards", "total", "version", NULL};

static bool writer_knows(const char *field) {
    bool info = strncmp(field, "info.", 5) == 0;
    const char *const *names = info ? writer_info_fields : writer_fields;
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(field + (info ? 5 : 0), names[i]) == 0) return true;
    }
    return false;
}

/* A field that no event has: which there are. */
static void writer_tell_fields(const char *field, char *error, size_t error_bytes) {
    bool info = strncmp(field, "info.", 5) == 0;
    const char *const *names = info ? writer_info_fields : writer_fields;
    int used = snprintf(error, error_bytes, "\"%.60s\" is no field of an event: there are ", field);
    for (size_t i = 0; names[i] && used > 0 && (size_t)used < error_bytes; i++) {
        used += snprintf(error + used, error_bytes - (size_t)used, "%s%s%s", i ? ", " : "",
                         info ? "info." : "", names[i]);
    }
    if (!info && (size_t)used < error_bytes) {
        snprintf(error + used, error_bytes - (size_t)used, ", and info.NAME");
    }
}

static bool writer_wants(struct export_writer *w, const char *fields, char *error,
                         size_t error_bytes) {
    while (*fields) {
        size_t size = strcspn(fields, ",");
        if (size == 0 || size >= EXPORT_NAME_BYTES || w->wanted_count == EXPORT_FIELDS_MAX) {
            snprintf(error, error_bytes, "\"%.60s\" is no list of fields", fields);
            return false;
        }
        char *wanted = w->wanted[w->wanted_count++];
        snprintf(wanted, EXPORT_NAME_BYTES, "%.*s", (int)size, fields);
        if (!writer_knows(wanted)) {
            writer_tell_fields(wanted, error, error_bytes);
            return false;
        }
        fields += size + (fields[size] == ',');
    }
    return true;
}

struct export_writer *export_writer_open(FILE *out, enum export_format format, const char *fields,
                                         char *error, size_t error_bytes) {
    struct export_writer *w = calloc(1, sizeof *w);
    if (!w) {
        snprintf(error, error_bytes, "no memory");
        return NULL;
    }
    w->out = out;
    w->format = format;
    w->masked = fields || format == EXPORT_CSV;
    if (w->masked && !writer_wants(w, fields ? fields : export_csv_fields, error, error_bytes)) {
        free(w);
        return NULL;
    }
    return w;
}

void export_writer_omit_heading(struct export_writer *w) { w->head_written = true; }

void export_writer_close(struct export_writer *w) {
    if (!w) return;
    free(w->buffer);
    free(w->packed);
    free(w);
}

bool export_writer_needs_orders(const struct export_writer *w) {
    for (uint32_t i = 0; i < w->wanted_count; i++) {
        if (strcmp(w->wanted[i], "store") == 0 || strcmp(w->wanted[i], "customer") == 0) {
            return true;
        }
    }
    return false;
}

/* -- taking apart ------------------------------------------------------------------------- */

static bool writer_take(struct export_writer *w, struct msgpack_reader *r, const char *prefix) {
    uint32_t count, size;
    if (msgpack_read_map(r, &count) != MSGPACK_OK) return false;
    for (uint32_t i = 0; i < count; i++) {
        const void *name;
        if (msgpack_read_str(r, &name, &size) != MSGPACK_OK) return false;
        bool info = !*prefix && size == 4 && memcmp(name, "info", 4) == 0;
        if (info) {
            if (!writer_take(w, r, "info.")) return false;
            continue;
        }
        if (w->count == EXPORT_FIELDS_MAX) return false;
        struct export_field *f = &w->fields[w->count++];
        snprintf(f->name, sizeof f->name, "%s%.*s", prefix, (int)size, (const char *)name);
        f->value = r->at;
        if (msgpack_skip(r) != MSGPACK_OK) return false;
        f->bytes = (size_t)(r->at - f->value);
    }
    return true;
}

static void writer_pair(struct export_writer *w, struct msgpack_writer *p, const char *name,
                        const uint8_t *value) {
    struct export_field *f = &w->fields[w->count++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->value = value;
    f->bytes = (size_t)(p->at - value);
}

static bool writer_encode(struct export_writer *w, const struct export_context *c,
                          const struct event *e) {
    size_t wanted = event_encode_bytes_max(e) + EXPORT_CONTEXT_BYTES;
    if (wanted > w->capacity) {
        free(w->buffer);
        free(w->packed);
        w->buffer = malloc(wanted);
        w->packed = malloc(2 * wanted);
        w->capacity = w->buffer && w->packed ? wanted : 0;
        if (w->capacity == 0) return false;
    }
    struct msgpack_writer p;
    msgpack_writer_init(&p, w->buffer, w->capacity);
    w->count = 0;
    const uint8_t *at = p.at;
    msgpack_write_uint(&p, c->shard);
    writer_pair(w, &p, "shard", at);
    if (c->republished) {
        at = p.at;
        msgpack_write_bool(&p, true);
        writer_pair(w, &p, "republished", at);
    }
    if (c->store.size) {
        at = p.at;
        msgpack_write_str(&p, c->store.data, c->store.size);
        writer_pair(w, &p, "store", at);
    }
    if (c->customer.size) {
        at = p.at;
        msgpack_write_str(&p, c->customer.data, c->customer.size);
        writer_pair(w, &p, "customer", at);
    }
    struct msgpack_reader r;
    at = p.at;
    event_encode(&p, c->index, c->time_ms, e);
    if (!msgpack_writer_ok(&p)) return false;
    msgpack_reader_init(&r, at, (size_t)(p.at - at));
    return writer_take(w, &r, "");
}

/* The fields to be written, in the order asked for; NULL in place of one that the event lacks. */
static uint32_t writer_chosen(const struct export_writer *w,
                              const struct export_field *chosen[EXPORT_FIELDS_MAX]) {
    if (!w->masked) {
        for (uint32_t i = 0; i < w->count; i++) chosen[i] = &w->fields[i];
        return w->count;
    }
    for (uint32_t i = 0; i < w->wanted_count; i++) {
        chosen[i] = NULL;
        for (uint32_t j = 0; j < w->count; j++) {
            if (strcmp(w->wanted[i], w->fields[j].name) == 0) chosen[i] = &w->fields[j];
        }
    }
    return w->wanted_count;
}

/* -- JSON --------------------------------------------------------------------------------- */

static void json_text(FILE *out, const uint8_t *text, uint32_t size) {
    putc_unlocked('"', out);
    for (uint32_t i = 0; i < size; i++) {
        uint8_t c = text[i];
        if (c == '"' || c == '\\') {
            putc_unlocked('\\', out);
            putc_unlocked(c, out);
        } else if (c < 0x20) {
            fprintf(out, "\\u%04x", c);
        } else {
            putc_unlocked(c, out);
        }
    }
    putc_unlocked('"', out);
}

static void put_bin(FILE *out, const uint8_t *data, uint32_t size, bool json) {
    if (size == 16) {
        struct id128 id;
        char text[ULID_TEXT_SIZE + 1];
        memcpy(id.bytes, data, 16);
        ulid_format(&id, text);
        fprintf(out, json ? "\"%s\"" : "%s", text);
        return;
    }
    if (json) fputs("{\"hex\":\"", out);
    for (uint32_t i = 0; i < size; i++) fprintf(out, "%02x", data[i]);
    if (json) fputs("\"}", out);
}

static void json_value(FILE *out, struct msgpack_reader *r) {
    uint32_t count = 0;
    const void *data = NULL;
    int64_t number;
    uint64_t large;
    bool truth = false;
    switch (msgpack_peek(r)) {
    case MSGPACK_TYPE_BOOL:
        msgpack_read_bool(r, &truth);
        fputs(truth ? "true" : "false", out);
        return;
    case MSGPACK_TYPE_INT:
        if (msgpack_read_int(r, &number) == MSGPACK_OK) fprintf(out, "%" PRId64, number);
        else if (msgpack_read_uint(r, &large) == MSGPACK_OK) fprintf(out, "%" PRIu64, large);
        return;
    case MSGPACK_TYPE_STR:
        msgpack_read_str(r, &data, &count);
        json_text(out, data, count);
        return;
    case MSGPACK_TYPE_BIN:
        msgpack_read_bin(r, &data, &count);
        put_bin(out, data, count, true);
        return;
    case MSGPACK_TYPE_ARRAY:
        msgpack_read_array(r, &count);
        putc_unlocked('[', out);
        for (uint32_t i = 0; i < count; i++) {
            if (i) putc_unlocked(',', out);
            json_value(out, r);
        }
        putc_unlocked(']', out);
        return;
    default:
        msgpack_skip(r);
        fputs("null", out);
    }
}

static void write_json(struct export_writer *w, const struct export_field *const *chosen,
                       uint32_t count) {
    bool info = false, first = true, first_info = true;
    putc_unlocked('{', w->out);
    for (int pass = 0; pass < 2; pass++) { /* what stands in info comes together, at the end */
        for (uint32_t i = 0; i < count; i++) {
            const struct export_field *f = chosen[i];
            struct msgpack_reader r;
            if (!f || (strncmp(f->name, "info.", 5) == 0) != pass) continue;
            if (pass == 1 && !info) fputs(first ? "\"info\":{" : ",\"info\":{", w->out);
            info |= pass == 1;
            bool comma = pass == 1 ? !first_info : !first;
            if (comma) putc_unlocked(',', w->out);
            if (pass == 1) first_info = false;
            else first = false;
            fprintf(w->out, "\"%s\":", f->name + (pass == 1 ? 5 : 0));
            msgpack_reader_init(&r, f->value, f->bytes);
            json_value(w->out, &r);
        }
    }
    if (!info && !w->masked) fputs(",\"info\":{}", w->out);
    fputs(info ? "}}\n" : "}\n", w->out);
}

/* -- CSV (RFC 4180) ----------------------------------------------------------------------- */

static void csv_text(FILE *out, const char *text, size_t size) {
    bool quoted = false;
    for (size_t i = 0; i < size; i++) quoted |= strchr("\",\r\n", text[i]) != NULL;
    if (!quoted) {
        fwrite(text, 1, size, out);
        return;
    }
    putc_unlocked('"', out);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') putc_unlocked('"', out);
        putc_unlocked(text[i], out);
    }
    putc_unlocked('"', out);
}

static void csv_value(FILE *out, const struct export_field *f) {
    struct msgpack_reader r;
    const void *data = NULL;
    uint32_t size = 0;
    msgpack_reader_init(&r, f->value, f->bytes);
    switch (msgpack_peek(&r)) {
    case MSGPACK_TYPE_NIL: return;
    case MSGPACK_TYPE_STR:
        msgpack_read_str(&r, &data, &size);
        csv_text(out, data, size);
        return;
    case MSGPACK_TYPE_BIN:
        msgpack_read_bin(&r, &data, &size);
        put_bin(out, data, size, false);
        return;
    case MSGPACK_TYPE_ARRAY: { /* lists as JSON in one column */
        char *text = NULL;
        size_t bytes = 0;
        FILE *memory = open_memstream(&text, &bytes);
        if (!memory) return;
        json_value(memory, &r);
        fclose(memory);
        csv_text(out, text, bytes);
        free(text);
        return;
    }
    default: json_value(out, &r);
    }
}

static void write_csv(struct export_writer *w, const struct export_field *const *chosen,
                      uint32_t count) {
    if (!w->head_written) {
        for (uint32_t i = 0; i < count; i++) fprintf(w->out, "%s%s", i ? "," : "", w->wanted[i]);
        fputs("\r\n", w->out);
        w->head_written = true;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i) putc_unlocked(',', w->out);
        if (chosen[i]) csv_value(w->out, chosen[i]);
    }
    fputs("\r\n", w->out);
}

/* -- msgpack ------------------------------------------------------------------------------ */

static void write_msgpack(struct export_writer *w, const struct export_field *const *chosen,
                          uint32_t count) {
    struct msgpack_writer p;
    uint32_t plain = 0, info = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!chosen[i]) continue;
        if (strncmp(chosen[i]->name, "info.", 5) == 0) info++;
        else plain++;
    }
    msgpack_writer_init(&p, w->packed, 2 * w->capacity);
    bool with_info = info > 0 || !w->masked;
    msgpack_write_map(&p, plain + with_info);
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1 && with_info) {
            msgpack_write_text(&p, "info");
            msgpack_write_map(&p, info);
        }
        for (uint32_t i = 0; i < count; i++) {
            const struct export_field *f = chosen[i];
            if (!f || (strncmp(f->name, "info.", 5) == 0) != pass) continue;
            msgpack_write_text(&p, f->name + (pass == 1 ? 5 : 0));
            msgpack_write_raw(&p, f->value, f->bytes);
        }
    }
    fwrite(w->packed, 1, msgpack_writer_size(&p), w->out);
}

bool export_write(struct export_writer *w, const struct export_context *c, const struct event *e) {
    const struct export_field *chosen[EXPORT_FIELDS_MAX];
    if (!writer_encode(w, c, e)) return false;
    uint32_t count = writer_chosen(w, chosen);
    if (w->format == EXPORT_JSONL) write_json(w, chosen, count);
    else if (w->format == EXPORT_CSV) write_csv(w, chosen, count);
    else write_msgpack(w, chosen, count);
    return !ferror(w->out);
}
