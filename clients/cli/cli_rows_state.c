/* How far a copy or a watch got: its file of tokens. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/cli/cli_rows.h"
#include "clients/cli/durable.h"

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

static const char *state_text(const json_t *json, const char *name) {
    const char *text = json_string_value(json_object_get(json, name));
    return text ? text : "";
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
    const char *cursor = state_text(json, "cursor");
    s->done = json_is_true(json_object_get(json, "done"));
    s->writing = json_is_true(json_object_get(json, "writing"));
    s->snapshot = (uint64_t)json_integer_value(json_object_get(json, "snapshot"));
    s->bytes = (uint64_t)json_integer_value(json_object_get(json, "bytes"));
    s->rows = (uint64_t)json_integer_value(json_object_get(json, "rows"));
    snprintf(s->replica, sizeof s->replica, "%s", state_text(json, "replica"));
    snprintf(s->cluster, sizeof s->cluster, "%s", state_text(json, "cluster"));
    snprintf(s->output, sizeof s->output, "%s", state_text(json, "output"));
    snprintf(s->format, sizeof s->format, "%s", state_text(json, "format"));
    snprintf(s->fields, sizeof s->fields, "%s", state_text(json, "fields"));
    snprintf(s->command, sizeof s->command, "%s", state_text(json, "command"));
    bool ok = cli_cursor_parse(cursor, s->cursor, &s->cursor_bytes) && s->tokens_count > 0;
    json_decref(json);
    return ok;
}

bool rows_state_is_stopped(const struct rows_state *s) { return !s->done && s->snapshot != 0; }

bool rows_state_is_unfinished(struct cli *cli, const char *path, const struct rows_state *s) {
    if (!rows_state_is_stopped(s)) return false;
    cli_error(cli, "%s is of a full copy that was stopped: finish it first, with import --full "
              "--tokens and the same --output, or begin it anew, with --restart as well", path);
    return true;
}

bool rows_state_is_ours(struct cli *cli, const char *path, const struct rows_state *s,
                        const char *command) {
    size_t size = strlen(command);
    bool whole = size > 0 && command[size - 1] != ' ';
    bool same = strncmp(s->command, command, size) == 0 && (!whole || s->command[size] == 0);
    if (same || s->command[0] == 0) return true;
    cli_error(cli, "%s keeps the place of jumun %s: give this command a file of its own", path,
              s->command);
    return false;
}

void rows_state_describe(struct rows_state *s, const struct rows *rows, const char *command) {
    snprintf(s->command, sizeof s->command, "%s", command);
    memcpy(s->output, rows->path, sizeof s->output);
    memcpy(s->fields, rows->fields_given, sizeof s->fields);
    snprintf(s->format, sizeof s->format, "%s", rows_format_name(rows->format));
}

/* "--format csv --fields key,state to /tmp/orders.csv" */
static void state_words(const struct rows_state *s, char *out, size_t bytes) {
    snprintf(out, bytes, "--format %s %s%s to %s", s->format,
             s->fields[0] ? "--fields " : "and all fields", s->fields,
             s->output[0] ? s->output : "standard output");
}

bool rows_state_fits(struct cli *cli, const char *path, const struct rows_state *s,
                     const struct rows *rows) {
    char then[ROWS_PATH_BYTES + ROWS_FIELDS_BYTES + 64], now[sizeof then];
    struct rows_state *wanted = malloc(sizeof *wanted);
    if (!wanted) return false;
    rows_state_describe(wanted, rows, "");
    state_words(s, then, sizeof then);
    state_words(wanted, now, sizeof now);
    free(wanted);
    if (s->format[0] == 0 || strcmp(then, now) == 0) return true; /* older files do not tell */
    cli_error(cli, "%s is of a copy that was begun with %s; this is %s. Go on as it was begun, or "
              "begin anew with --restart", path, then, now);
    return false;
}

bool rows_state_save(const char *path, const struct rows_state *s) {
    char hex[CLI_CURSOR_TEXT_BYTES], error[1024];
    json_t *tokens = json_array();
    for (uint32_t i = 0; i < s->tokens_count; i++)
        json_array_append_new(tokens, json_pack("[I, I]", (json_int_t)s->tokens[i].shard,
                                                (json_int_t)s->tokens[i].index));
    cli_cursor_text(s->cursor, s->cursor_bytes, hex);
    json_t *json = json_pack("{s:o, s:b, s:s, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:b, s:s}",
                             "tokens", tokens, "done", s->done, "replica", s->replica, "snapshot",
                             (json_int_t)s->snapshot, "cursor", hex, "bytes",
                             (json_int_t)s->bytes, "rows", (json_int_t)s->rows, "cluster",
                             s->cluster, "output", s->output, "format", s->format, "fields",
                             s->fields, "writing", s->writing, "command", s->command);
    return durable_json(path, json, error, sizeof error) == 0;
}
