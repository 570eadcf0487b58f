#include "engine/base/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int directory_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    int rc = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    errno = rc;
    return rc;
}
