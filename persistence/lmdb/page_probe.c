#include "persistence/lmdb/page_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WINDOW_PAGES_MAX = 64 };  /* bits of `absent` */

static uint32_t system_page_bytes(void) {
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 && bytes <= PAGE_PROBE_WINDOW_BYTES_MAX ? (uint32_t)bytes : 4096;
}

void page_probe_init(struct page_probe *p, uint32_t window_bytes) {
    uint32_t page = system_page_bytes();
    p->window_bytes = window_bytes / page * page;
    if (p->window_bytes < page) p->window_bytes = page;
    if (p->window_bytes > PAGE_PROBE_WINDOW_BYTES_MAX)
        p->window_bytes = PAGE_PROBE_WINDOW_BYTES_MAX;
    if (p->window_bytes > WINDOW_PAGES_MAX * page) p->window_bytes = WINDOW_PAGES_MAX * page;
    p->count = p->newest = 0;
    p->read_bytes = 0;
}

void page_probe_begin(int fd) { (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); }

static bool probe_is_known(struct page_probe *p, uint64_t at) {
    if (p->newest < p->count && p->windows[p->newest].at == at) return true;
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->windows[i].at != at) continue;
        p->newest = i;
        return true;
    }
    return false;
}

static bool probe_pread(struct page_probe *p, int fd, uint64_t at, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = pread(fd, p->buffer + done, bytes - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += (uint64_t)got;
    }
    p->read_bytes += bytes;
    return true;
}

/* The pages of the window that are not in the cache; none, when the system does not say. */
static uint64_t probe_absent(const uint8_t *map, uint64_t at, uint64_t bytes) {
    unsigned char there[WINDOW_PAGES_MAX];
    uint32_t page = system_page_bytes();
    uint64_t absent = 0, pages = (bytes + page - 1) / page;
    if (mincore((void *)(uintptr_t)(map + at), bytes, there) != 0) return 0;
    for (uint64_t i = 0; i < pages; i++)
        if (!(there[i] & 1)) absent |= 1ULL << i;
    return absent;
}

/* A window with a place that cannot be read may still have what is wanted of it: from..upto. */
static bool probe_window(struct page_probe *p, int fd, const uint8_t *map, uint64_t file_bytes,
                         uint64_t at, uint64_t from, uint64_t upto) {
    uint64_t bytes = file_bytes - at < p->window_bytes ? file_bytes - at : p->window_bytes;
    if (probe_is_known(p, at)) return true;
    uint64_t absent = probe_absent(map, at, bytes);
    if (!probe_pread(p, fd, at, bytes)) return probe_pread(p, fd, from, upto - from);
    if (p->count == PAGE_PROBE_WINDOWS_MAX) return true;
    p->newest = p->count++;
    p->windows[p->newest] = (struct page_probe_window){at, absent};
    return true;
}

bool page_probe_read(struct page_probe *p, int fd, const uint8_t *map, uint64_t file_bytes,
                     uint64_t at, uint64_t bytes) {
    uint64_t end = at + bytes;
    if (end > file_bytes) return false;
    for (uint64_t window = at - at % p->window_bytes; window < end; window += p->window_bytes) {
        uint64_t from = window > at ? window : at;
        uint64_t upto = window + p->window_bytes < end ? window + p->window_bytes : end;
        if (!probe_window(p, fd, map, file_bytes, window, from, upto)) return false;
    }
    return true;
}

void page_probe_let_go(struct page_probe *p, int fd) {
    uint32_t page = system_page_bytes();
    for (uint32_t i = 0; i < p->count; i++) {
        for (uint64_t absent = p->windows[i].absent; absent != 0;) {
            uint32_t first = (uint32_t)__builtin_ctzll(absent);
            uint64_t run = ~(absent >> first);
            uint32_t pages = run == 0 ? WINDOW_PAGES_MAX : (uint32_t)__builtin_ctzll(run);
            (void)posix_fadvise(fd, (off_t)(p->windows[i].at + (uint64_t)first * page),
                                (off_t)pages * page, POSIX_FADV_DONTNEED);
            if (first + pages >= WINDOW_PAGES_MAX) break;
            absent &= ~0ULL << (first + pages);
        }
    }
    p->count = p->newest = 0;
}
