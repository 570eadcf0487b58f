#include "clients/cli/cli_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/sdk/query_reply.h"

static const char *const csv_fields[] = {"key", "state", "version", "fulfilment", "store",
                                         "customer", "external_ref", "currency", "total",
                                         "captured", "refunded", "placed_ms", "updated_ms"};
enum { CSV_FIELDS = sizeof csv_fields / sizeof csv_fields[0] };

bool rows_options(struct cli *cli, struct rows *rows) {
    const char *format = args_value(&cli->args, "format");
    if (!format || strcmp(format, "jsonl") == 0) rows->format = ROWS_JSONL;
    else if (strcmp(format, "csv") == 0) rows->format = ROWS_CSV;
    else if (strcmp(format, "msgpack") == 0) rows->format = ROWS_MSGPACK;
    else return cli_usage(cli, "--format: \"%.40s\" is not jsonl, csv or msgpack", format), false;
    if (!cli_fields(cli, rows->fields, &rows->fields_count)) return false;
    if (rows->format == ROWS_CSV && rows->fields_count == 0) {
        memcpy(rows->fields, csv_fields, sizeof csv_fields);
        rows->fields_count = CSV_FIELDS;
    }
    if (!cli_int_option(cli, "rate", &rows->per_second)) return false;
    if (rows->per_second >= 0) return true;
    return cli_usage(cli, "--rate: must not be negative"), false;
}

bool rows_open(struct cli *cli, struct rows *rows, const char *path, uint64_t resume_at) {
    rows->out = path ? fopen(path, resume_at ? "r+b" : "wb") : stdout;
    bool ok = rows->out != NULL;
    if (ok && path && resume_at)
        ok = ftruncate(fileno(rows->out), (off_t)resume_at) == 0 &&
             fseeko(rows->out, 0, SEEK_END) == 0 && ftello(rows->out) == (off_t)resume_at;
    if (!ok) {
        cli_error(cli, "%s: %s", path, errno ? strerror(errno) : "it is shorter than it was");
        return false;
    }
    rows->bytes = resume_at;
    rows->started_ns = text_mono_ns();
    if (rows->format != ROWS_CSV || resume_at) return true;
    for (uint32_t i = 0; i < rows->fields_count; i++)
        rows->bytes += (uint64_t)fprintf(rows->out, "%s%s", i ? "," : "", rows->fields[i]);
    rows->bytes += (uint64_t)fprintf(rows->out, "\n");
    return true;
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
                      (uint64_t)((double)rows->written * 1e9 / (double)rows->per_second);
    uint64_t now_ns = text_mono_ns();
    if (due_ns <= now_ns) return;
    struct timespec wait = {.tv_sec = (time_t)((due_ns - now_ns) / 1000000000u),
                            .tv_nsec = (long)((due_ns - now_ns) % 1000000000u)};
    nanosleep(&wait, NULL);
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

bool rows_flush(struct rows *rows) { return fflush(rows->out) == 0 && !ferror(rows->out); }

bool rows_close(struct rows *rows) {
    if (!rows->out) return true;
    bool ok = rows_flush(rows);
    if (rows->out != stdout && fclose(rows->out) != 0) ok = false;
    rows->out = NULL;
    return ok;
}

/* -- how far it got ---------------------------------------------------------------------------- */

int rows_state_lock(const struct cli *cli, const char *path) {
    char name[4096];
    snprintf(name, sizeof name, "%.4000s.lock", path);
    for (;;) {
        struct stat held, there;
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0) {
            cli_error(cli, "%s: %s", name, strerror(errno));
            return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            cli_error(cli, "%s: another command keeps its tokens there just now (%s); give this "
                      "one a file of its own", path, name);
            close(fd);
            return -1;
        }
        /* Who held it before may have removed it in between. */
        if (fstat(fd, &held) == 0 && stat(name, &there) == 0 && held.st_ino == there.st_ino)
            return fd;
        close(fd);
    }
}

void rows_state_unlock(const char *path, int lock) {
    char name[4096];
    if (lock < 0) return;
    snprintf(name, sizeof name, "%.4000s.lock", path);
    unlink(name);
    close(lock);
}

bool rows_state_load(const char *path, struct rows_state *s, bool *exists) {
    json_t *json = json_load_file(path, 0, NULL), *token;
    size_t i;
    *exists = access(path, F_OK) == 0;
    memset(s, 0, sizeof *s);
    if (!json) return false;
    json_t *tokens = json_object_get(json, "tokens");
    json_array_foreach(tokens, i, token) {
        if (s->tokens_count == CLI_TOKENS_MAX) break;
        s->tokens[s->tokens_count++] = (jumun_token){
            (uint32_t)json_integer_value(json_array_get(token, 0)),
            (uint64_t)json_integer_value(json_array_get(token, 1))};
    }
    const char *replica = json_string_value(json_object_get(json, "replica"));
    const char *cursor = json_string_value(json_object_get(json, "cursor"));
    s->done = json_is_true(json_object_get(json, "done"));
    snprintf(s->replica, sizeof s->replica, "%s", replica ? replica : "");
    s->snapshot = (uint64_t)json_integer_value(json_object_get(json, "snapshot"));
    s->bytes = (uint64_t)json_integer_value(json_object_get(json, "bytes"));
    s->rows = (uint64_t)json_integer_value(json_object_get(json, "rows"));
    bool ok = cli_cursor_parse(cursor ? cursor : "", s->cursor, &s->cursor_bytes) &&
              s->tokens_count > 0;
    json_decref(json);
    return ok;
}

bool rows_state_is_unfinished(struct cli *cli, const char *path, const struct rows_state *s) {
    if (s->done || s->snapshot == 0) return false;
    cli_error(cli, "%s is of a full copy that was stopped: finish it first, with import --full "
              "--tokens and the same --output", path);
    return true;
}

bool rows_state_save(const char *path, const struct rows_state *s) {
    char hex[CLI_CURSOR_TEXT_BYTES], next[4096];
    json_t *tokens = json_array();
    for (uint32_t i = 0; i < s->tokens_count; i++)
        json_array_append_new(tokens, json_pack("[I, I]", (json_int_t)s->tokens[i].shard,
                                                (json_int_t)s->tokens[i].index));
    cli_cursor_text(s->cursor, s->cursor_bytes, hex);
    json_t *json = json_pack("{s:o, s:b, s:s, s:I, s:s, s:I, s:I}", "tokens", tokens, "done",
                             s->done, "replica", s->replica, "snapshot", (json_int_t)s->snapshot,
                             "cursor", hex, "bytes", (json_int_t)s->bytes, "rows",
                             (json_int_t)s->rows);
    snprintf(next, sizeof next, "%s.next", path);
    bool ok = json && json_dump_file(json, next, JSON_COMPACT) == 0 && rename(next, path) == 0;
    json_decref(json);
    return ok;
}
