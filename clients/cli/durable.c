#include "clients/cli/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/directory.h"

bool durable_sync(FILE *file) {
    struct stat st;
    if (fflush(file) != 0 || ferror(file) || fstat(fileno(file), &st) != 0) return false;
    return !S_ISREG(st.st_mode) || fsync(fileno(file)) == 0;
}

bool durable_name(const char *path) {
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash) slash[slash == directory ? 1 : 0] = 0;
    return directory_sync(slash ? directory : ".") == 0;
}

int durable_json(const char *path, json_t *json, char *error, size_t error_bytes) {
    char beside[PATH_MAX];
    int used = snprintf(beside, sizeof beside, "%s.new", path);
    errno = json ? ENAMETOOLONG : ENOMEM;
    bool fits = json && used > 0 && (size_t)used < sizeof beside;
    int fd = fits ? open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640) : -1;
    bool ok = fd >= 0 && json_dumpfd(json, fd, JSON_COMPACT) == 0 && write(fd, "\n", 1) == 1 &&
              fsync(fd) == 0;
    if (fd >= 0) ok = close(fd) == 0 && ok;
    ok = ok && rename(beside, path) == 0 && durable_name(path);
    if (!ok) snprintf(error, error_bytes, "%.900s: %s", path, strerror(errno));
    json_decref(json);
    return ok ? 0 : -1;
}
