#include "clients/cli/input.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { INPUT_CHUNK_BYTES = 1 << 16 };

bool input_open(struct input *in, const char *path, char *error, size_t error_bytes) {
    memset(in, 0, sizeof *in);
    bool standard = strcmp(path, "-") == 0;
    in->name = standard ? "standard input" : path;
    in->next_line = 1;
    struct stat st;
    if (!standard && stat(path, &st) != 0) {
        snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
        return false;
    }
    if (!standard && S_ISDIR(st.st_mode)) {
        snprintf(error, error_bytes, "%s: is a directory", path);
        return false;
    }
    if (!standard) in->file_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    errno = 0;
    in->file = standard ? gzdopen(dup(STDIN_FILENO), "rb") : gzopen(path, "rb");
    in->buffer = malloc(INPUT_CHUNK_BYTES);
    if (!in->file || !in->buffer) {
        snprintf(error, error_bytes, "%s: %s", in->name, errno ? strerror(errno) : "no memory");
        input_close(in);
        return false;
    }
    return true;
}

bool input_open_memory(struct input *in, const char *text, size_t bytes) {
    memset(in, 0, sizeof *in);
    in->name = "text";
    in->next_line = 1;
    in->memory = text;
    in->memory_bytes = bytes;
    return true;
}

void input_close(struct input *in) {
    if (in->file) gzclose(in->file);
    free(in->buffer);
    free(in->row);
    memset(in, 0, sizeof *in);
}

/* The next byte, or -1 at the end or after a failure to read. */
static int input_peek(struct input *in) {
    const char *from = in->memory ? in->memory : in->buffer;
    if (in->memory) {
        return in->buffer_at < in->memory_bytes ? (unsigned char)from[in->buffer_at] : -1;
    }
    if (in->buffer_at == in->buffer_used) {
        int got = in->failed ? 0 : gzread(in->file, in->buffer, INPUT_CHUNK_BYTES);
        /* A gzip stream that is cut short ends without got < 0; only the error number tells. */
        int fault = Z_OK;
        gzerror(in->file, &fault);
        if (got < 0 || (got == 0 && fault != Z_OK)) in->failed = true;
        in->buffer_at = 0;
        in->buffer_used = got > 0 ? (size_t)got : 0;
        if (in->buffer_used == 0) return -1;
    }
    return (unsigned char)from[in->buffer_at];
}

static int input_take(struct input *in) {
    int c = input_peek(in);
    if (c >= 0) in->buffer_at++;
    if (c == '\n') in->next_line++;
    return c;
}

/* Appends a byte to the row; false when the row is over its limit or memory is out. */
static bool input_put(struct input *in, int c) {
    if (in->row_used + 1 >= in->row_capacity) {
        size_t grown = in->row_capacity ? in->row_capacity * 2 : 4096;
        char *row = in->row_capacity < INPUT_ROW_BYTES_MAX ? realloc(in->row, grown) : NULL;
        if (!row) return false;
        in->row = row;
        in->row_capacity = grown;
    }
    in->row[in->row_used++] = (char)c;
    return true;
}

static void input_skip_line(struct input *in) {
    int c = 0;
    while (c != '\n' && c != -1) c = input_take(in);
}

static enum input_result input_bad(struct input *in, char *error, size_t bytes, const char *why) {
    snprintf(error, bytes, "%s: line %" PRIu64 ": %s", in->name, in->line, why);
    return INPUT_BAD;
}

static void input_skip_mark(struct input *in) {
    static const unsigned char mark[] = {0xef, 0xbb, 0xbf};
    if (in->next_line != 1 || in->buffer_at != 0) return;
    if (input_peek(in) != mark[0]) return;
    const char *from = in->memory ? in->memory : in->buffer;
    size_t left = in->memory ? in->memory_bytes : in->buffer_used;
    if (left >= 3 && memcmp(from, mark, 3) == 0) in->buffer_at = 3;
}

/* Skips blank lines and begins a row. False at the end. */
static bool input_begin(struct input *in) {
    input_skip_mark(in);
    int c;
    while ((c = input_peek(in)) == '\n' || c == '\r') input_take(in);
    in->line = in->next_line;
    in->row_used = 0;
    in->fields_count = 0;
    return c != -1;
}

static enum input_result input_ended(struct input *in, char *error, size_t bytes) {
    return in->failed ? input_bad(in, error, bytes, "the file cannot be read on from here")
                      : INPUT_END;
}

/* One field up to its comma or the row's end. `*last` says which. NULL or what is wrong. */
static const char *input_field(struct input *in, bool *last) {
    static const char too_long[] = "the row is over 4 MiB";
    if (input_peek(in) == '"') {
        input_take(in);
        for (;;) {
            int c = input_take(in);
            if (c == -1) return "a quoted field is not closed";
            if (c == '"' && input_peek(in) != '"') break;
            if (c == '"') input_take(in);
            if (!input_put(in, c)) return too_long;
        }
        int next = input_peek(in);
        if (next != ',' && next != '\n' && next != '\r' && next != -1) {
            return "something follows the closing quote of a field";
        }
    }
    for (;;) {
        int c = input_take(in);
        if (c == '\r' && input_peek(in) == '\n') c = input_take(in);
        *last = c == '\n' || c == -1;
        if (*last || c == ',') break;
        if (c == 0) return "a zero byte stands in the text";
        if (!input_put(in, c)) return too_long;
    }
    return input_put(in, 0) ? NULL : too_long;
}

enum input_result input_csv_row(struct input *in, char *error, size_t error_bytes) {
    if (!input_begin(in)) return input_ended(in, error, error_bytes);
    size_t starts[INPUT_FIELDS_MAX];
    for (bool last = false; !last;) {
        if (in->fields_count == INPUT_FIELDS_MAX) {
            input_skip_line(in);
            return input_bad(in, error, error_bytes, "the row has more than 64 fields");
        }
        starts[in->fields_count] = in->row_used;
        const char *why = input_field(in, &last);
        if (why) {
            if (!last) input_skip_line(in);
            return input_bad(in, error, error_bytes, why);
        }
        in->fields_count++;
    }
    /* The row may have moved while it grew: fields get their place at the end. */
    for (uint32_t i = 0; i < in->fields_count; i++) in->fields[i] = in->row + starts[i];
    return in->failed ? input_ended(in, error, error_bytes) : INPUT_ROW;
}

enum input_result input_text_line(struct input *in, char *error, size_t error_bytes) {
    if (!input_begin(in)) return input_ended(in, error, error_bytes);
    int c;
    while ((c = input_take(in)) != '\n' && c != -1) {
        if (input_put(in, c)) continue;
        input_skip_line(in);
        return input_bad(in, error, error_bytes, "the line is over 4 MiB");
    }
    if (in->row_used > 0 && in->row[in->row_used - 1] == '\r') in->row_used--;
    if (!input_put(in, 0)) return input_bad(in, error, error_bytes, "the line is over 4 MiB");
    in->row_used--;
    return in->failed ? input_ended(in, error, error_bytes) : INPUT_ROW;
}

enum input_result input_rest(struct input *in, char *error, size_t error_bytes) {
    if (!input_begin(in)) return input_ended(in, error, error_bytes);
    int c;
    while ((c = input_take(in)) != -1) {
        if (!input_put(in, c)) return input_bad(in, error, error_bytes, "the text is over 4 MiB");
    }
    if (in->failed) return input_ended(in, error, error_bytes);
    if (!input_put(in, 0)) return input_bad(in, error, error_bytes, "the text is over 4 MiB");
    in->row_used--;
    return INPUT_ROW;
}

double input_share(const struct input *in) {
    if (in->memory) return in->memory_bytes ? (double)in->buffer_at / (double)in->memory_bytes : 1;
    if (!in->file || in->file_bytes == 0) return -1;
    double share = (double)gzoffset(in->file) / (double)in->file_bytes;
    return share < 0 ? -1 : share > 1 ? 1 : share;
}
