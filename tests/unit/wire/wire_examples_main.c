/* wire_examples page FILE > NEW    docs/protocol.md with its example blocks written anew
 * wire_examples corpus DIR         every example as a file: where the fuzzers start
 * wire_examples write NAME         the bytes of one example, e.g. to send with nngcat */
#include <stdio.h>
#include <stdlib.h>

#include "engine/limits.h"
#include "tests/lib/page.h"
#include "tests/unit/wire/wire_page.h"

static int write_example(const struct wire_example *example, FILE *out) {
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    example->write(&w);
    size_t size = msgpack_writer_size(&w);
    return msgpack_writer_ok(&w) && fwrite(bytes, 1, size, out) == size ? 0 : 1;
}

static int write_file(const char *folder, char prefix, unsigned i,
                      const struct wire_example *example) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%c%02u", folder, prefix, i);
    FILE *out = fopen(path, "wb");
    if (out == NULL) return 1;
    int rv = write_example(example, out);
    return fclose(out) != 0 || rv != 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "page") == 0)
        return page_print_filled(argv[2], wire_page_fill);
    if (argc == 3 && strcmp(argv[1], "corpus") == 0) {
        int rv = 0;
        for (unsigned i = 0; i < wire_examples_requests_count; i++)
            rv |= write_file(argv[2], 'q', i, &wire_examples_requests[i]);
        for (unsigned i = 0; i < wire_examples_replies_count; i++)
            rv |= write_file(argv[2], 'r', i, &wire_examples_replies[i]);
        return rv;
    }
    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        const struct wire_example *example = wire_page_example(argv[2], strlen(argv[2]));
        if (example != NULL) return write_example(example, stdout);
        fprintf(stderr, "no example \"%s\"\n", argv[2]);
        return 1;
    }
    fprintf(stderr, "usage: wire_examples page FILE | corpus DIR | write NAME\n");
    return 2;
}
