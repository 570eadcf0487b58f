#include "clients/cli/cli_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/cli_stop.h"
#include "clients/cli/durable.h"
#include "clients/cli/output.h"
#include "clients/cli/text.h"
#include "clients/sdk/query_reply.h"

static const char *const csv_fields[] = {"key", "state", "version", "fulfilment", "store",
                                         "customer", "external_ref", "currency", "total",
                                         "captured", "refunded", "placed_ms", "updated_ms"};
enum { CSV_FIELDS = sizeof csv_fields / sizeof csv_fields[0] };

const char *rows_format_name(enum rows_format format) {
    static const char *const names[] = {"jsonl", "csv", "msgpack"};
    return names[format];
}

bool rows_options(struct cli *cli, struct rows *rows) {
    const char *format = args_value(&cli->args, "format");
    const char *fields = args_value(&cli->args, "fields"); /* cut in place below */
    if (!format || strcmp(format, "jsonl") == 0) rows->format = ROWS_JSONL;
    else if (strcmp(format, "csv") == 0) rows->format = ROWS_CSV;
    else if (strcmp(format, "msgpack") == 0) rows->format = ROWS_MSGPACK;
    else return cli_usage(cli, "--format: \"%.40s\" is not jsonl, csv or msgpack", format), false;
    snprintf(rows->fields_given, sizeof rows->fields_given, "%s", fields ? fields : "");
    if (!cli_fields(cli, rows->fields, &rows->fields_count)) return false;
    if (rows->format == ROWS_CSV && rows->fields_count == 0) {
        memcpy(rows->fields, csv_fields, sizeof csv_fields);
        rows->fields_count = CSV_FIELDS;
    }
    rows->no_heading = args_flag(&cli->args, "no-heading");
    if (!cli_int_option(cli, "rate", &rows->per_second)) return false;
    if (rows->per_second >= 0) return true;
    return cli_usage(cli, "--rate: must not be negative"), false;
}

/* -- the output -------------------------------------------------------------------------------- */

static bool rows_cannot(struct cli *cli, const struct rows *rows, const char *why) {
    cli_error(cli, "%s: %s", rows->path[0] ? rows->path : "standard output", why);
    return false;
}

bool rows_open(struct cli *cli, struct rows *rows, const char *path) {
    struct stat st;
    char whole[PATH_MAX];
    if (!path) {
        rows->out = stdout;
        return true;
    }
    snprintf(rows->path, sizeof rows->path, "%s", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    rows->made = fd >= 0;
    if (fd < 0) fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || fstat(fd, &st) != 0 || !(rows->out = fdopen(fd, "wb"))) {
        int why = errno;
        if (fd >= 0) close(fd);
        return rows_cannot(cli, rows, strerror(why));
    }
    if (realpath(path, whole)) snprintf(rows->path, sizeof rows->path, "%s", whole);
    rows->regular = S_ISREG(st.st_mode);
    rows->there = rows->regular ? (uint64_t)st.st_size : 0;
    return true;
}

/* Whether something stands before what is written to standard output: `>>`, or a second command of
 * a list. */
static bool rows_stdout_goes_on(void) {
    struct stat st;
    if (fstat(STDOUT_FILENO, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    bool appends = (fcntl(STDOUT_FILENO, F_GETFL) & O_APPEND) != 0;
    return (appends ? st.st_size : lseek(STDOUT_FILENO, 0, SEEK_CUR)) > 0;
}

bool rows_begin(struct cli *cli, struct rows *rows, uint64_t at) {
    if (rows->regular && at > rows->there)
        return rows_cannot(cli, rows, "it is shorter than it was");
    if (rows->regular && (ftruncate(fileno(rows->out), (off_t)at) != 0 ||
                          fseeko(rows->out, (off_t)at, SEEK_SET) != 0))
        return rows_cannot(cli, rows, strerror(errno));
    rows->bytes = at;
    rows->begun = true;
    rows->started_ns = text_mono_ns();
    bool begins = rows->path[0] ? at == 0 : !rows_stdout_goes_on();
    if (rows->format != ROWS_CSV || rows->no_heading || !begins) return true;
    for (uint32_t i = 0; i < rows->fields_count; i++)
        rows->bytes += (uint64_t)fprintf(rows->out, "%s%s", i ? "," : "", rows->fields[i]);
    rows->bytes += (uint64_t)fprintf(rows->out, "\n");
    return true;
}

void rows_undo(struct rows *rows, uint64_t at) {
    if (!rows->out || !rows->regular || !rows->begun) return;
    if (fflush(rows->out) != 0) clearerr(rows->out); /* no room: it goes all the same */
    if (ftruncate(fileno(rows->out), (off_t)at) == 0) rows->bytes = at;
    if (at == 0) rows->begun = false;
}

static void csv_text(struct rows *rows, const char *text) {
    bool quote = strpbrk(text, ",\"\r\n") != NULL;
    if (!quote) {
        rows->bytes += (uint64_t)fprintf(rows->out, "%s", text);
        return;
    }
    fputc('"', rows->out);
    for (; *text; text++, rows->bytes++) {
        if (*text == '"') fputc('"', rows->out), rows->bytes++;
        fputc(*text, rows->out);
    }
    fputc('"', rows->out);
    rows->bytes += 2;
}

static void csv_row(struct rows *rows, const json_t *row) {
    for (uint32_t i = 0; i < rows->fields_count; i++) {
        const json_t *v = json_object_get(row, rows->fields[i]);
        if (i) fputc(',', rows->out), rows->bytes++;
        if (json_is_string(v)) {
            csv_text(rows, json_string_value(v));
        } else if (v && !json_is_null(v)) {
            char *dump = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
            if (dump) csv_text(rows, dump);
            free(dump);
        }
    }
    fputc('\n', rows->out);
    rows->bytes++;
}

static void rows_put(struct rows *rows, const void *row, size_t bytes) {
    rows->written++;
    if (rows->format == ROWS_MSGPACK) {
        rows->bytes += fwrite(row, 1, bytes, rows->out);
        return;
    }
    json_t *json = cli_row_json(row, bytes, rows->fields, rows->fields_count);
    if (rows->format == ROWS_CSV) {
        csv_row(rows, json);
    } else {
        char *dump = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        if (dump) rows->bytes += (uint64_t)fprintf(rows->out, "%s\n", dump);
        free(dump);
    }
    json_decref(json);
}

/* Behind the time at which so many rows may have been written. */
static void rows_throttle(const struct rows *rows) {
    if (rows->per_second == 0) return;
    uint64_t due_ns = rows->started_ns +
                      (uint64_t)((double)(rows->written - rows->written_before) * 1e9 /
                                 (double)rows->per_second);
    uint64_t now_ns = text_mono_ns();
    if (due_ns <= now_ns) return;
    struct timespec wait = {.tv_sec = (time_t)((due_ns - now_ns) / 1000000000u),
                            .tv_nsec = (long)((due_ns - now_ns) % 1000000000u)};
    while (nanosleep(&wait, &wait) != 0 && errno == EINTR && !cli_stop_asked()) {}
}

bool rows_write(struct rows *rows, const jumun_answer *answer) {
    struct msgpack_reader r;
    uint32_t count;
    msgpack_reader_init(&r, answer->value ? answer->value : "", answer->value_bytes);
    if (msgpack_read_array(&r, &count) != MSGPACK_OK) return true;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = r.at;
        if (msgpack_skip(&r) != MSGPACK_OK) break;
        if (*row != 0xc0) rows_put(rows, row, (size_t)(r.at - row));
    }
    rows_throttle(rows);
    return !ferror(rows->out);
}

int rows_failed(struct cli *cli, const struct rows *rows) {
    int why = errno;
    if (!rows->path[0] && output_reader_gone()) return OUTPUT_READER_GONE;
    rows_cannot(cli, rows, why ? strerror(why) : "it cannot be written");
    return CLI_BAD_FILE;
}

bool rows_flush(struct rows *rows) { return fflush(rows->out) == 0 && !ferror(rows->out); }

bool rows_sync(struct rows *rows) {
    bool new_name = rows->regular && rows->path[0] && !rows->named;
    if (!durable_sync(rows->out) || (new_name && !durable_name(rows->path))) return false;
    rows->named = true;
    return true;
}

bool rows_close(struct rows *rows) {
    if (!rows->out) return true;
    bool ok = rows_flush(rows);
    if (rows->made && !rows->begun) unlink(rows->path);
    if (rows->out != stdout && fclose(rows->out) != 0) ok = false;
    rows->out = NULL;
    return ok;
}
