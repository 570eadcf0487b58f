#include "persistence/lmdb/journal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/limits.h"

enum { JOURNAL_NOTES = 2 };

static const uint8_t journal_magic[8] = "jumunjrn";

static uint64_t journal_checksum(const void *row, size_t bytes) {
    return XXH3_64bits((const uint8_t *)row + 8, bytes - 8);
}

static uint64_t journal_digest(uint64_t digest, uint64_t checksum) {
    const uint64_t both[2] = {digest, checksum};
    return XXH3_64bits(both, sizeof both);
}

int journal_error(char *error, size_t error_bytes, const char *format, ...) {
    if (!error) return -1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return -1;
}

void journal_header_make(struct journal_header *header, uint32_t shard, uint64_t bytes,
                         uint64_t identity) {
    *header = (struct journal_header){.format = JOURNAL_FORMAT, .shard = shard, .bytes = bytes,
                                      .identity = identity};
    memcpy(header->magic, journal_magic, sizeof header->magic);
    header->checksum = journal_checksum(header, sizeof *header);
}

size_t journal_record_bytes(const struct record *r) {
    return (sizeof r->header + r->header.payload_bytes + 7) & ~(size_t)7;
}

static uint64_t journal_frame_blocks(size_t records_bytes) {
    return (sizeof(struct journal_frame_header) + records_bytes + JOURNAL_BLOCK - 1) /
           JOURNAL_BLOCK;
}

/* -- reading one ---------------------------------------------------------------------------- */

/* A frame found in the file. */
struct journal_found { const struct journal_frame_header *header; uint64_t block; };

struct journal_scan {
    uint8_t *data;             /* the whole file */
    uint64_t bytes, blocks;
    bool trusts;               /* see journal_device */
    struct journal_header header;
    struct journal_found *found; /* by sequence */
    uint64_t count;
};

static int journal_load(struct journal_scan *scan, const struct journal_device *device,
                        const char *name, uint32_t shard, char *error, size_t error_bytes) {
    scan->bytes = device->bytes;
    scan->data = malloc(scan->bytes + 1);
    if (!scan->data) return journal_error(error, error_bytes, "%s: no memory", name);
    int rc = device->read(device->arg, scan->data, scan->bytes, 0);
    if (rc != 0) return journal_error(error, error_bytes, "%s: %s", name, strerror(rc));
    struct journal_header *h = &scan->header;
    if (scan->bytes >= sizeof *h) memcpy(h, scan->data, sizeof *h);
    if (scan->bytes < sizeof *h || memcmp(h->magic, journal_magic, sizeof h->magic) != 0 ||
        h->checksum != journal_checksum(h, sizeof *h) || h->bytes != scan->bytes ||
        scan->bytes % JOURNAL_BLOCK != 0 || scan->bytes < 8 * JOURNAL_BLOCK) {
        return journal_error(error, error_bytes,
                             "%s: its header is damaged: what was acknowledged last may be in it "
                             "and cannot be read", name);
    }
    if (h->format == JOURNAL_FORMAT && (h->shard == shard || shard == JOURNAL_ANY_SHARD)) {
        scan->blocks = scan->bytes / JOURNAL_BLOCK - 1;
        return 0;
    }
    return journal_error(error, error_bytes,
                         h->format != JOURNAL_FORMAT
                             ? "%s: of format %u, which this version does not know"
                             : "%s: is shard %u's", name,
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
        if (bytes > h.payload_bytes - offset) return false;
        if (!scan->trusts && record_fault(at + sizeof h + offset, bytes, r.index)) return false;
        digest = journal_digest(digest, r.checksum);
        offset += (bytes + 7) & ~(size_t)7;
    }
    return offset == h.payload_bytes && (scan->trusts || digest == h.digest);
}

static int journal_compare(const void *a, const void *b) {
    const struct journal_found *x = a, *y = b;
    return x->header->sequence < y->header->sequence ? -1
                                                     : x->header->sequence > y->header->sequence;
}

/* Finds all frames, and sees that those which are needed are there. */
static int journal_find(struct journal_scan *scan, const char *name, char *error,
                        size_t error_bytes) {
    scan->found = malloc(scan->blocks * sizeof *scan->found);
    if (!scan->found) return journal_error(error, error_bytes, "%s: no memory", name);
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
        return journal_error(error, error_bytes, "%s: a frame between %llu and %llu is damaged: "
                          "records that were acknowledged are lost", name,
                          (unsigned long long)newest->applied + 1,
                          (unsigned long long)newest->sequence);
    }
    memmove(scan->found, scan->found + from, needed * sizeof *scan->found);
    scan->count = needed;
    return 0;
}

void journal_free_records(struct record *r) {
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

static int journal_scan_all(struct journal_scan *scan, const struct journal_device *device,
                            const char *name, uint32_t shard, struct record **records,
                            char *error, size_t error_bytes) {
    *scan = (struct journal_scan){0};
    *records = NULL;
    int rc = journal_load(scan, device, name, shard, error, error_bytes);
#ifdef JUMUN_DEBUG_CHECKS
    scan->trusts = device->trusts;
#endif
    if (rc == 0) rc = journal_find(scan, name, error, error_bytes);
    if (rc == 0 && !journal_collect(scan, records)) {
        rc = journal_error(error, error_bytes, "%s: no memory", name);
    }
    return rc;
}

static void journal_scan_end(struct journal_scan *scan) {
    free(scan->found);
    free(scan->data);
}

int journal_read_on(const struct journal_device *device, const char *name, uint32_t shard,
                    struct record **records, char *error, size_t error_bytes) {
    struct journal_scan scan;
    int rc = journal_scan_all(&scan, device, name, shard, records, error, error_bytes);
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

int journal_open_on(struct journal *j, const struct journal_device *device, const char *name,
                    uint32_t shard, struct record **records, char *error, size_t error_bytes) {
    struct journal_scan scan;
    *j = (struct journal){.open = true, .device = *device};
    int rc = journal_scan_all(&scan, device, name, shard, records, error, error_bytes);
    if (rc == 0) {
        j->identity = scan.header.identity;
        j->blocks = scan.blocks;
        j->frame_bytes_max = scan.bytes / 4 / JOURNAL_BLOCK * JOURNAL_BLOCK;
        if (j->frame_bytes_max > JOURNAL_FRAME_BYTES_MAX)
            j->frame_bytes_max = JOURNAL_FRAME_BYTES_MAX;
        j->frames = malloc(j->blocks * sizeof *j->frames);
        j->buffer = aligned_alloc(JOURNAL_BLOCK, j->frame_bytes_max + JOURNAL_BLOCK);
        if (!j->frames || !j->buffer)
            rc = journal_error(error, error_bytes, "%s: no memory", name);
    }
    /* What was read may have been written by a process that ended before it was synced. */
    int synced = rc == 0 ? device->sync(device->arg) : 0;
    if (synced != 0) rc = journal_error(error, error_bytes, "%s: %s", name, strerror(synced));
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
    if (j->open) j->device.close(j->device.arg);
    free(j->frames);
    free(j->buffer);
    *j = (struct journal){0};
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
    int rc = j->device.write(j->device.arg, j->buffer, blocks * JOURNAL_BLOCK,
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
