/* Reads with read() what is about to be touched in the map of a file: what the disk cannot give is
 * an answer then, and not a signal that ends the process. Remembers what of it was not in the page
 * cache before, so that it can leave again without taking along what others use.
 *
 * One thread; a probe belongs to one open file at a time. */
#ifndef JUMUN_PERSISTENCE_LMDB_PAGE_PROBE_H
#define JUMUN_PERSISTENCE_LMDB_PAGE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE_PROBE_WINDOW_BYTES_MAX = 64 << 10, PAGE_PROBE_WINDOWS_MAX = 512 };

struct page_probe {
    uint32_t window_bytes;     /* read at a time; page_probe_init() */
    uint32_t count, newest;    /* windows that are remembered; the one that was asked for last */
    uint64_t read_bytes;       /* so far; what others had in the page cache counts too */
    struct page_probe_window {
        uint64_t at;           /* in the file */
        uint64_t absent;       /* a bit for each page of the system that was not in the cache */
    } windows[PAGE_PROBE_WINDOWS_MAX];
    uint8_t buffer[PAGE_PROBE_WINDOW_BYTES_MAX];
};

/* Windows of about `window_bytes`: large where neighbours will be wanted too, else small. */
void page_probe_init(struct page_probe *p, uint32_t window_bytes);

/* No read-ahead for this file: what it brought would look as if it had been there before. */
void page_probe_begin(int fd);

/* False: some of these bytes cannot be read, or lie behind the end of the file by now. `map` is the
 * file's, of `file_bytes`, in which they lie. */
bool page_probe_read(struct page_probe *p, int fd, const uint8_t *map, uint64_t file_bytes,
                     uint64_t at, uint64_t bytes);

/* Lets the page cache go that was made by this probe; of what is mapped nothing goes. A hint. */
void page_probe_let_go(struct page_probe *p, int fd);

#endif
