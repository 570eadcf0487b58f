#include "persistence/lmdb/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/limits.h"
#include "persistence/lmdb/env.h"

enum { JOURNAL_PART = 256 * 1024, JOURNAL_REST_NS = 2000000, JOURNAL_NOTES = 2 };

static const uint8_t journal_magic[8] = "jumunjrn";

static uint64_t journal_checksum(const void *row, size_t bytes) {
    return XXH3_64bits((const uint8_t *)row + 8, bytes - 8);
}

static uint64_t journal_digest(uint64_t digest, uint64_t checksum) {
    const uint64_t both[2] = {digest, checksum};
    return XXH3_64bits(both, sizeof both);
}

size_t journal_record_bytes(const struct record *r) {
    return (sizeof r->header + r->header.payload_bytes + 7) & ~(size_t)7;
}

static uint64_t journal_frame_blocks(size_t records_bytes) {
    return (sizeof(struct journal_frame_header) + records_bytes + JOURNAL_BLOCK - 1) /
           JOURNAL_BLOCK;
}

/* -- making one ----------------------------------------------------------------------------- */

static int journal_write_all(int fd, const uint8_t *data, size_t bytes, uint64_t offset) {
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
    struct journal_header header = {.format = JOURNAL_FORMAT, .shard = shard, .bytes = bytes};
    memcpy(header.magic, journal_magic, sizeof header.magic);
    int rc = getrandom(&header.identity, sizeof header.identity, 0) ==
                     (ssize_t)sizeof header.identity ? 0 : EIO;
    header.checksum = journal_checksum(&header, sizeof header);
    memcpy(part, &header, sizeof header);
    for (uint64_t at = 0; rc == 0 && at < bytes; at += JOURNAL_PART) {
        uint64_t left = bytes - at;
        rc = journal_write_all(fd, part, left < JOURNAL_PART ? left : JOURNAL_PART, at);
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
    if (rc == 0) return lmdb_sync_directory(parent);
    unlink(fresh);
    return rc;
}

/* -- reading one ---------------------------------------------------------------------------- */

/* A frame found in the file. */
struct journal_found { const struct journal_frame_header *header; uint64_t block; };

struct journal_scan {
    uint8_t *data;             /* the whole file */
    uint64_t bytes, blocks;
    struct journal_header header;
    struct journal_found *found; /* by sequence */
    uint64_t count;
};

static int journal_load(struct journal_scan *scan, const char *path, uint32_t shard, char *error,
                        size_t error_bytes) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return ENOENT;
    if (fd < 0) return lmdb_error(error, error_bytes, "%s: %s", path, strerror(errno));
    int rc = fstat(fd, &st) != 0 ? errno : 0;
    scan->bytes = rc == 0 ? (uint64_t)st.st_size : 0;
    if (rc == 0) scan->data = malloc(scan->bytes + 1);
    if (rc == 0 && !scan->data) rc = ENOMEM;
    for (uint64_t at = 0; rc == 0 && at < scan->bytes;) {
        ssize_t n = pread(fd, scan->data + at, scan->bytes - at, (off_t)at);
        if (n > 0) at += (uint64_t)n;
        else if (n == 0) rc = EIO;
        else if (errno != EINTR) rc = errno;
    }
    close(fd);
    if (rc != 0) return lmdb_error(error, error_bytes, "%s: %s", path, strerror(rc));
    struct journal_header *h = &scan->header;
    if (scan->bytes >= sizeof *h) memcpy(h, scan->data, sizeof *h);
    if (scan->bytes < sizeof *h || memcmp(h->magic, journal_magic, sizeof h->magic) != 0 ||
        h->checksum != journal_checksum(h, sizeof *h) || h->bytes != scan->bytes ||
        scan->bytes % JOURNAL_BLOCK != 0 || scan->bytes < 8 * JOURNAL_BLOCK) {
        return lmdb_error(error, error_bytes, "%s: its header is damaged: what was acknowledged "
                          "last may be in it and cannot be read", path);
    }
    if (h->format == JOURNAL_FORMAT && (h->shard == shard || shard == JOURNAL_ANY_SHARD)) {
        scan->blocks = scan->bytes / JOURNAL_BLOCK - 1;
        return 0;
    }
    return lmdb_error(error, error_bytes, h->format != JOURNAL_FORMAT
                          ? "%s: of format %u, which this version does not know"
                          : "%s: is shard %u's", path,
                      h->format != JOURNAL_FORMAT ? h->format : h->shard);
}

/* Is a whole frame in place at this block of the ring? */
static bool journal_is_frame(const struct journal_scan *scan, uint64_t block) {
    const uint8_t *at = scan->data + (1 + block) * JOURNAL_BLOCK;
    const uint64_t room = (scan->blocks - block) * JOURNAL_BLOCK;
    struct journal_frame_header h;
    memcpy(&h, at, sizeof h);
    if (h.identity != scan->header.identity || h.checksum != journal_checksum(&h, sizeof h) ||
        h.payload_bytes > room - sizeof h) {
        return false;
    }
    uint64_t digest = 0, offset = 0;
    for (uint32_t i = 0; i < h.records; i++) {
        struct record_header r;
        if (h.payload_bytes - offset < sizeof r) return false;
        memcpy(&r, at + sizeof h + offset, sizeof r);
        size_t bytes = sizeof r + r.payload_bytes;
        if (bytes > h.payload_bytes - offset ||
            record_fault(at + sizeof h + offset, bytes, r.index)) {
            return false;
        }
        digest = journal_digest(digest, r.checksum);
        offset += (bytes + 7) & ~(size_t)7;
    }
    return offset == h.payload_bytes && digest == h.digest;
}

static int journal_compare(const void *a, const void *b) {
    const struct journal_found *x = a, *y = b;
    return x->header->sequence < y->header->sequence ? -1
                                                     : x->header->sequence > y->header->sequence;
}

/* Finds all frames, and sees that those which are needed are there. */
static int journal_find(struct journal_scan *scan, const char *path, char *error,
                        size_t error_bytes) {
    scan->found = malloc(scan->blocks * sizeof *scan->found);
    if (!scan->found) return lmdb_error(error, error_bytes, "%s: no memory", path);
    for (uint64_t block = 0; block < scan->blocks; block++) {
        if (!journal_is_frame(scan, block)) continue;
        scan->found[scan->count++] = (struct journal_found){
            (const void *)(scan->data + (1 + block) * JOURNAL_BLOCK), block};
    }
    if (scan->count == 0) return 0;
    qsort(scan->found, scan->count, sizeof *scan->found, journal_compare);
    const struct journal_frame_header *newest = scan->found[scan->count - 1].header;
    uint64_t needed = newest->sequence - newest->applied;
    uint64_t from = scan->count - (needed < scan->count ? needed : scan->count);
    if (needed > scan->count || scan->found[from].header->sequence != newest->applied + 1) {
        return lmdb_error(error, error_bytes, "%s: a frame between %llu and %llu is damaged: "
                          "records that were acknowledged are lost", path,
                          (unsigned long long)newest->applied + 1,
                          (unsigned long long)newest->sequence);
    }
    memmove(scan->found, scan->found + from, needed * sizeof *scan->found);
    scan->count = needed;
    return 0;
}

static void journal_free_records(struct record *r) {
    while (r) {
        struct record *next = r->next;
        record_release(r);
        r = next;
    }
}

/* The records of all frames that were found; false without memory. */
static bool journal_collect(const struct journal_scan *scan, struct record **records) {
    struct record **link = records;
    *records = NULL;
    for (uint64_t f = 0; f < scan->count; f++) {
        const struct journal_frame_header *h = scan->found[f].header;
        const uint8_t *at = (const uint8_t *)(h + 1);
        for (uint32_t i = 0; i < h->records; i++) {
            struct record_header header;
            memcpy(&header, at, sizeof header);
            struct record *r = record_new(header.payload_bytes);
            if (!r) {
                journal_free_records(*records);
                *records = NULL;
                return false;
            }
            r->header = header;
            memcpy(r->payload, at + sizeof header, header.payload_bytes);
            at += journal_record_bytes(r);
            *link = r;
            link = &r->next;
        }
    }
    return true;
}

static int journal_scan_file(struct journal_scan *scan, const char *path, uint32_t shard,
                             struct record **records, char *error, size_t error_bytes) {
    *scan = (struct journal_scan){0};
    *records = NULL;
    int rc = journal_load(scan, path, shard, error, error_bytes);
    if (rc == 0) rc = journal_find(scan, path, error, error_bytes);
    if (rc == 0 && !journal_collect(scan, records)) {
        rc = lmdb_error(error, error_bytes, "%s: no memory", path);
    }
    return rc;
}

static void journal_scan_end(struct journal_scan *scan) {
    free(scan->found);
    free(scan->data);
}

int journal_read(const char *path, uint32_t shard, struct record **records, char *error,
                 size_t error_bytes) {
    struct journal_scan scan;
    int rc = journal_scan_file(&scan, path, shard, records, error, error_bytes);
    journal_scan_end(&scan);
    return rc;
}

/* -- writing -------------------------------------------------------------------------------- */

static void journal_remember(struct journal *j, uint64_t begin, uint64_t end, uint32_t records) {
    require(j->frames_count < j->blocks);
    j->records += records;
    j->frames[(j->frames_first + j->frames_count++) % j->blocks] =
        (struct journal_frame){j->sequence, begin, end, j->records};
}

/* Where the frames that were found leave off. */
static void journal_resume(struct journal *j, const struct journal_scan *scan) {
    for (uint64_t i = 0; i < scan->count; i++) {
        const struct journal_found *found = &scan->found[i];
        uint64_t begin = found->block;
        while (begin < j->next) begin += j->blocks;
        j->sequence = found->header->sequence;
        j->applied = found->header->applied;
        j->next = begin + journal_frame_blocks(found->header->payload_bytes);
        journal_remember(j, begin, j->next, found->header->records);
    }
}

int journal_open(struct journal *j, const char *path, uint32_t shard, struct record **records,
                 char *error, size_t error_bytes) {
    struct journal_scan scan;
    *j = (struct journal){.fd = -1};
    int rc = journal_scan_file(&scan, path, shard, records, error, error_bytes);
    if (rc == 0) {
        j->identity = scan.header.identity;
        j->blocks = scan.blocks;
        j->frame_bytes_max = scan.bytes / 4 / JOURNAL_BLOCK * JOURNAL_BLOCK;
        if (j->frame_bytes_max > JOURNAL_FRAME_BYTES_MAX)
            j->frame_bytes_max = JOURNAL_FRAME_BYTES_MAX;
        j->frames = malloc(j->blocks * sizeof *j->frames);
        j->buffer = aligned_alloc(JOURNAL_BLOCK, j->frame_bytes_max + JOURNAL_BLOCK);
        /* Not every file system can write past its cache. */
        j->fd = open(path, O_RDWR | O_DSYNC | O_DIRECT | O_CLOEXEC);
        if (j->fd < 0) j->fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
        if (j->fd < 0 || !j->frames || !j->buffer) {
            rc = lmdb_error(error, error_bytes, "%s: %s", path,
                            j->fd < 0 ? strerror(errno) : "no memory");
        }
    }
    /* What was read may have been written by a process that ended before it was synced. */
    if (rc == 0 && fdatasync(j->fd) != 0)
        rc = lmdb_error(error, error_bytes, "%s: %s", path, strerror(errno));
    if (rc == 0) journal_resume(j, &scan);
    if (rc == 0) j->clear = !*records;
    journal_scan_end(&scan);
    if (rc == 0) return 0;
    journal_free_records(*records);
    *records = NULL;
    journal_close(j);
    return rc;
}

void journal_close(struct journal *j) {
    if (j->fd >= 0) close(j->fd);
    free(j->frames);
    free(j->buffer);
    *j = (struct journal){.fd = -1};
}

void journal_recount(struct journal *j, uint64_t records) {
    j->records = records;
    for (uint64_t i = 0; i < j->frames_count; i++)
        j->frames[(j->frames_first + i) % j->blocks].records_end = records;
}

uint64_t journal_applied(const struct journal *j, uint64_t records) {
    uint64_t applied = j->applied;
    for (uint64_t i = 0; i < j->frames_count; i++) {
        const struct journal_frame *f = &j->frames[(j->frames_first + i) % j->blocks];
        if (f->records_end > records) break;
        applied = f->sequence;
    }
    return applied;
}

/* The block where a frame would begin: none lies across the end of the file. */
static uint64_t journal_begin(const struct journal *j, uint64_t blocks) {
    uint64_t at = j->next % j->blocks;
    return at + blocks <= j->blocks ? j->next : j->next + j->blocks - at;
}

static bool journal_fits(const struct journal *j, uint64_t blocks) {
    if (j->frames_count == 0) return blocks <= j->blocks;
    return journal_begin(j, blocks) + blocks <= j->frames[j->frames_first].begin + j->blocks;
}

bool journal_has_room(const struct journal *j, size_t bytes) {
    /* Room for notes is kept: they are what makes room. */
    return bytes <= j->frame_bytes_max &&
           journal_fits(j, journal_frame_blocks(bytes) + JOURNAL_NOTES);
}

/* The frame in the buffer; returns the bytes of its records. */
static size_t journal_compose(struct journal *j, const struct record *first, uint32_t count,
                              uint64_t applied) {
    struct journal_frame_header h = {.identity = j->identity, .sequence = j->sequence + 1,
                                     .applied = applied, .records = count};
    uint8_t *at = j->buffer + sizeof h;
    const struct record *r = first;
    for (uint32_t i = 0; i < count; i++, r = r->next) {
        size_t bytes = sizeof r->header + r->header.payload_bytes;
        size_t padded = journal_record_bytes(r);
        memcpy(at, &r->header, bytes);
        memset(at + bytes, 0, padded - bytes);
        at += padded;
        h.digest = journal_digest(h.digest, r->header.checksum);
    }
    h.payload_bytes = (uint32_t)(at - j->buffer - (ptrdiff_t)sizeof h);
    h.checksum = journal_checksum(&h, sizeof h);
    memcpy(j->buffer, &h, sizeof h);
    return h.payload_bytes;
}

int journal_write(struct journal *j, const struct record *first, uint32_t count,
                  uint64_t applied) {
    require(applied >= j->applied && applied <= j->sequence);
    size_t bytes = journal_compose(j, first, count, applied);
    uint64_t blocks = journal_frame_blocks(bytes), begin = journal_begin(j, blocks);
    size_t used = sizeof(struct journal_frame_header) + bytes;
    require(journal_fits(j, blocks) && used <= j->frame_bytes_max + JOURNAL_BLOCK);
    memset(j->buffer + used, 0, blocks * JOURNAL_BLOCK - used);
    int rc = journal_write_all(j->fd, j->buffer, blocks * JOURNAL_BLOCK,
                               (1 + begin % j->blocks) * JOURNAL_BLOCK);
    if (rc != 0) return rc;
    j->clear = count == 0 && applied == j->sequence;
    j->sequence++;
    j->applied = applied;
    while (j->frames_count > 0 && j->frames[j->frames_first].sequence <= applied) {
        j->frames_first = (j->frames_first + 1) % j->blocks;
        j->frames_count--;
    }
    j->next = begin + blocks;
    journal_remember(j, begin, j->next, count);
    return 0;
}
