#include "clients/replay/export_output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/cli/durable.h"

enum { EXPORT_BUFFER_BYTES = 1 << 18 };

static int output_fails(const char *path, const char *why, char *error, size_t error_bytes) {
    snprintf(error, error_bytes, "%.500s: %s", path, why);
    return -1;
}

/* Held where it is gone on with: two runs would cut off what the other one writes. */
static int output_open_file(struct export_output *o, const char *path, bool goes_on, char *error,
                            size_t error_bytes) {
    struct stat st;
    if (!goes_on) {
        o->file = fopen(path, "wb");
        return o->file ? 0 : output_fails(path, strerror(errno), error, error_bytes);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || fstat(fd, &st) != 0 || !(o->file = fdopen(fd, "wb"))) {
        int why = errno;
        if (fd >= 0) close(fd);
        return output_fails(path, strerror(why), error, error_bytes);
    }
    if (!realpath(path, o->path)) snprintf(o->path, sizeof o->path, "%s", path);
    o->regular = S_ISREG(st.st_mode);
    o->there = o->regular ? (uint64_t)st.st_size : 0;
    if (!o->regular || flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    return output_fails(path, "another export writes into it just now", error, error_bytes);
}

int export_output_open(struct export_output *o, const char *path, bool goes_on, char *error,
                       size_t error_bytes) {
    memset(o, 0, sizeof *o);
    o->file = stdout;
    if (path && strcmp(path, "-") != 0 &&
        output_open_file(o, path, goes_on, error, error_bytes) != 0) {
        if (o->file && o->file != stdout) fclose(o->file);
        o->file = NULL;
        return -1;
    }
    setvbuf(o->file, NULL, _IOFBF, EXPORT_BUFFER_BYTES);
    return 0;
}

static const char *output_name(const char *path) { return *path ? path : "standard output"; }

/* Of another output than this one: a run that was killed has left some events there behind its
 * place, which would come twice; and what somebody else has written is not gone on with. */
static int output_is_another(const struct export_output *o, const json_t *place,
                             const char *place_path, char *error, size_t error_bytes) {
    const char *noted = json_string_value(json_object_get(place, "output"));
    if (json_is_true(json_object_get(place, "writing"))) {
        snprintf(error, error_bytes, "%.300s is of an export to %.300s that did not come to its "
                 "end: go on with that --output first", place_path, output_name(noted));
        return -1;
    }
    if (o->there == 0) return 0;
    snprintf(error, error_bytes, "%.300s is of an export to %.300s, and %.300s has %" PRIu64
             " bytes in it that did not come with it: name the same --output, or an empty file",
             place_path, output_name(noted), o->path, o->there);
    return -1;
}

int export_output_go_on(struct export_output *o, const json_t *place, const char *place_path,
                        char *error, size_t error_bytes) {
    const char *noted = json_string_value(json_object_get(place, "output"));
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(place, "bytes"));
    o->begin = o->there;
    if (noted && strcmp(noted, o->path) != 0) {
        if (output_is_another(o, place, place_path, error, error_bytes) != 0) return -1;
    } else if (noted && o->regular && o->there > 0) { /* an empty one was taken away, and is new */
        if (bytes > o->there) {
            snprintf(error, error_bytes, "%.300s has %" PRIu64 " bytes, fewer than the %" PRIu64
                     " that %.300s tells of: it is not what it was", o->path, o->there, bytes,
                     place_path);
            return -1;
        }
        o->begin = bytes;
    }
    if (!o->regular || (ftruncate(fileno(o->file), (off_t)o->begin) == 0 &&
                        fseeko(o->file, (off_t)o->begin, SEEK_SET) == 0)) {
        return 0;
    }
    return output_fails(o->path, strerror(errno), error, error_bytes);
}

bool export_output_is_begun(const struct export_output *o) {
    struct stat st;
    if (o->regular) return o->begin > 0;
    if (o->file != stdout || fstat(STDOUT_FILENO, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    bool appends = (fcntl(STDOUT_FILENO, F_GETFL) & O_APPEND) != 0; /* >> */
    return (appends ? st.st_size : lseek(STDOUT_FILENO, 0, SEEK_CUR)) > 0;
}

int export_output_note(struct export_output *o, json_t *place, bool writing) {
    if (!o->file) return 0;
    if (!durable_sync(o->file)) return -1;
    if (!o->regular) return 0;
    if (!o->named && !durable_name(o->path)) return -1;
    o->named = true;
    off_t at = ftello(o->file);
    if (at < 0) return -1;
    json_object_set_new(place, "output", json_string(o->path));
    json_object_set_new(place, "bytes", json_integer((json_int_t)at));
    json_object_set_new(place, "writing", json_boolean(writing));
    return 0;
}

int export_output_close(struct export_output *o) {
    FILE *file = o->file;
    o->file = NULL;
    return file && file != stdout ? fclose(file) : 0;
}
