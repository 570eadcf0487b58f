#include "tests/unit/wire/wire_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"
#include "tests/lib/page.h"

const struct wire_example *wire_page_example(const char *name, size_t size) {
    for (unsigned i = 0; i < wire_examples_requests_count; i++)
        if (strlen(wire_examples_requests[i].name) == size &&
            memcmp(wire_examples_requests[i].name, name, size) == 0)
            return &wire_examples_requests[i];
    for (unsigned i = 0; i < wire_examples_replies_count; i++)
        if (strlen(wire_examples_replies[i].name) == size &&
            memcmp(wire_examples_replies[i].name, name, size) == 0)
            return &wire_examples_replies[i];
    return NULL;
}

/* -- a notation for people: h'00ff' is a bin --------------------------------------------------- */

enum { PAGE_COLUMNS = 96 };

static void page_print(FILE *out, struct msgpack_reader *r, int indent);

static void page_print_list(FILE *out, struct msgpack_reader *r, uint32_t count, bool map,
                            int indent) {
    fputc(map ? '{' : '[', out);
    for (uint32_t i = 0; i < count; i++) {
        if (i != 0) fputs(indent >= 0 ? "," : ", ", out);
        if (indent >= 0) fprintf(out, "\n%*s", indent + 2, "");
        page_print(out, r, map ? -1 : indent >= 0 ? indent + 2 : -1);
        if (!map) continue;
        fputs(": ", out);
        page_print(out, r, indent >= 0 ? indent + 2 : -1);
    }
    fputc(map ? '}' : ']', out);
}

static void page_print_scalar(FILE *out, struct msgpack_reader *r) {
    bool flag;
    uint64_t u;
    int64_t i;
    const void *data;
    uint32_t size;
    switch (msgpack_peek(r)) {
    case MSGPACK_TYPE_NIL:
        require(msgpack_read_nil(r) == MSGPACK_OK);
        fputs("nil", out);
        break;
    case MSGPACK_TYPE_BOOL:
        require(msgpack_read_bool(r, &flag) == MSGPACK_OK);
        fputs(flag ? "true" : "false", out);
        break;
    case MSGPACK_TYPE_STR:
        require(msgpack_read_str(r, &data, &size) == MSGPACK_OK);
        fprintf(out, "\"%.*s\"", (int)size, (const char *)data);
        break;
    case MSGPACK_TYPE_BIN:
        require(msgpack_read_bin(r, &data, &size) == MSGPACK_OK);
        fputs("h'", out);
        for (uint32_t k = 0; k < size; k++) fprintf(out, "%02x", ((const uint8_t *)data)[k]);
        fputc('\'', out);
        break;
    default:
        if (msgpack_read_uint(r, &u) == MSGPACK_OK) {
            fprintf(out, "%" PRIu64, u);
        } else {
            require(msgpack_read_int(r, &i) == MSGPACK_OK);
            fprintf(out, "%" PRId64, i);
        }
    }
}

static void page_print_one(FILE *out, struct msgpack_reader *r, int indent) {
    uint32_t count;
    if (msgpack_peek(r) == MSGPACK_TYPE_ARRAY) {
        require(msgpack_read_array(r, &count) == MSGPACK_OK);
        page_print_list(out, r, count, false, indent);
    } else if (msgpack_peek(r) == MSGPACK_TYPE_MAP) {
        require(msgpack_read_map(r, &count) == MSGPACK_OK);
        page_print_list(out, r, count, true, indent);
    } else {
        page_print_scalar(out, r);
    }
}

/* On one line where it fits, else one item a line; indent -1 = always on one line. */
static void page_print(FILE *out, struct msgpack_reader *r, int indent) {
    if (indent >= 0) {
        struct msgpack_reader ahead = *r;
        char *line = NULL;
        size_t size = 0;
        FILE *probe = open_memstream(&line, &size);
        require(probe != NULL);
        page_print_one(probe, &ahead, -1);
        fclose(probe);
        free(line);
        if (size + (size_t)indent <= PAGE_COLUMNS) indent = -1;
    }
    page_print_one(out, r, indent);
}

static void page_print_example(FILE *out, const struct wire_example *example, bool hex) {
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    example->write(&w);
    require(msgpack_writer_ok(&w));
    if (hex) {
        page_print_hex(out, bytes, msgpack_writer_size(&w), 32);
        return;
    }
    struct msgpack_reader r;
    msgpack_reader_init(&r, bytes, msgpack_writer_size(&w));
    page_print(out, &r, 0);
    require(msgpack_reader_left(&r) == 0);
    fputc('\n', out);
}

static bool page_print_named(FILE *out, const char *name, bool hex) {
    const struct wire_example *example = wire_page_example(name, strlen(name));
    if (example != NULL) page_print_example(out, example, hex);
    return example != NULL;
}

static bool page_write_hex(FILE *out, const char *name) {
    return page_print_named(out, name, true);
}

static bool page_write_text(FILE *out, const char *name) {
    return page_print_named(out, name, false);
}

char *wire_page_fill(const char *page, char *error, size_t error_bytes) {
    static const struct page_block blocks[] = {{"```hex ", "```", page_write_hex},
                                               {"```text ", "```", page_write_text}};
    return page_fill(page, blocks, sizeof blocks / sizeof *blocks, error, error_bytes);
}
