/* The journal's file on a real disk: made, opened, read, written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/directory.h"
#include "persistence/lmdb/env.h"
#include "persistence/lmdb/journal.h"

enum { JOURNAL_PART = 256 * 1024, JOURNAL_REST_NS = 2000000 };

/* A file as a device. */
struct journal_disk {
    int fd;                    /* -1 = it is only read */
    char path[LMDB_PATH_BYTES_MAX];
};

/* -- making one ----------------------------------------------------------------------------- */

static int journal_disk_write_all(int fd, const uint8_t *data, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        ssize_t n = pwrite(fd, data, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : EIO;
        data += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int journal_fill(int fd, uint32_t shard, uint64_t bytes, const atomic_bool *stop) {
    uint8_t *part = calloc(1, JOURNAL_PART);
    if (!part) return ENOMEM;
    uint64_t identity;
    int rc = getrandom(&identity, sizeof identity, 0) == (ssize_t)sizeof identity ? 0 : EIO;
    struct journal_header header;
    journal_header_make(&header, shard, bytes, identity);
    memcpy(part, &header, sizeof header);
    for (uint64_t at = 0; rc == 0 && at < bytes; at += JOURNAL_PART) {
        uint64_t left = bytes - at;
        rc = journal_disk_write_all(fd, part, left < JOURNAL_PART ? left : JOURNAL_PART, at);
        if (rc == 0 && fdatasync(fd) != 0) rc = errno;
        if (rc == 0 && atomic_load(stop)) rc = EINTR;
        memset(part, 0, sizeof header);
        nanosleep(&(struct timespec){.tv_nsec = JOURNAL_REST_NS}, NULL);
    }
    free(part);
    if (rc == 0 && fsync(fd) != 0) rc = errno;
    return rc;
}

int journal_make(const char *path, uint32_t shard, uint64_t bytes, const atomic_bool *stop) {
    char fresh[LMDB_PATH_BYTES_MAX + 8], parent[LMDB_PATH_BYTES_MAX];
    require(bytes % JOURNAL_BLOCK == 0 && strlen(path) < sizeof parent);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    require(slash);
    *slash = 0;
    int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) return errno;
    int rc = journal_fill(fd, shard, bytes, stop);
    close(fd);
    if (rc == 0 && rename(fresh, path) != 0) rc = errno;
    if (rc == 0) return directory_sync(parent);
    unlink(fresh);
    return rc;
}

/* -- as a device ---------------------------------------------------------------------------- */

/* By a descriptor of its own: what is read need not be aligned. */
static int journal_disk_read(void *arg, void *data, size_t bytes, uint64_t offset) {
    const struct journal_disk *disk = arg;
    int fd = open(disk->path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0) return errno;
    for (size_t at = 0; rc == 0 && at < bytes;) {
        ssize_t n = pread(fd, (uint8_t *)data + at, bytes - at, (off_t)(offset + at));
        if (n > 0) at += (size_t)n;
        else if (n == 0) rc = EIO;
        else if (errno != EINTR) rc = errno;
    }
    close(fd);
    return rc;
}

static int journal_disk_write(void *arg, const void *data, size_t bytes, uint64_t offset) {
    return journal_disk_write_all(((struct journal_disk *)arg)->fd, data, bytes, offset);
}

static int journal_disk_sync(void *arg) {
    return fdatasync(((struct journal_disk *)arg)->fd) == 0 ? 0 : errno;
}

static void journal_disk_close(void *arg) {
    struct journal_disk *disk = arg;
    if (disk->fd >= 0) close(disk->fd);
    free(disk);
}

/* ENOENT, or another code, with a sentence. */
static int journal_disk_open(struct journal_device *device, const char *path, bool writes,
                             char *error, size_t error_bytes) {
    struct stat st;
    *device = (struct journal_device){0};
    if (stat(path, &st) != 0) {
        if (errno == ENOENT) return ENOENT;
        return lmdb_error(error, error_bytes, "%s: %s", path, strerror(errno));
    }
    struct journal_disk *disk = calloc(1, sizeof *disk);
    if (!disk) return lmdb_error(error, error_bytes, "%s: no memory", path);
    disk->fd = -1;
    require(snprintf(disk->path, sizeof disk->path, "%s", path) < (int)sizeof disk->path);
    /* Not every file system can write past its cache. */
    if (writes) disk->fd = open(path, O_RDWR | O_DSYNC | O_DIRECT | O_CLOEXEC);
    if (writes && disk->fd < 0) disk->fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
    if (writes && disk->fd < 0) {
        int rc = errno;
        free(disk);
        return lmdb_error(error, error_bytes, "%s: %s", path, strerror(rc));
    }
    *device = (struct journal_device){.read = journal_disk_read, .write = journal_disk_write,
                                      .sync = journal_disk_sync, .close = journal_disk_close,
                                      .arg = disk, .bytes = (uint64_t)st.st_size};
    return 0;
}

int journal_read(const char *path, uint32_t shard, struct record **records, char *error,
                 size_t error_bytes) {
    struct journal_device device;
    *records = NULL;
    int rc = journal_disk_open(&device, path, false, error, error_bytes);
    if (rc != 0) return rc;
    rc = journal_read_on(&device, path, shard, records, error, error_bytes);
    device.close(device.arg);
    return rc;
}

int journal_open(struct journal *j, const char *path, uint32_t shard, struct record **records,
                 char *error, size_t error_bytes) {
    struct journal_device device;
    *j = (struct journal){0};
    *records = NULL;
    int rc = journal_disk_open(&device, path, true, error, error_bytes);
    if (rc != 0) return rc;
    return journal_open_on(j, &device, path, shard, records, error, error_bytes);
}
